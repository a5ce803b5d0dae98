"""`python -m deeplens_tf.pretrain`: images without labels to `encoder.keras`."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import MULTIWORKER, StageParser, add_run_options, run_stage, stage_parser
from deeplens_tf.config import load_config
from deeplens_tf.data.folders import require_folder
from deeplens_tf.runs.resuming import continued, is_finished, point_to_run
from deeplens_tf.startup import import_tensorflow
from deeplens_tf.terminal import print_lines

CONFIG = "contrastive"


def parser() -> StageParser:
    """Return the stage's command line."""
    words = stage_parser("pretrain", "Pretrain an encoder on lens images, without their labels.")
    add_run_options(words, config=CONFIG)
    return words


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    arguments = parser().parse_args(words)
    point_to_run(arguments, "pretrain", CONFIG)
    config = load_config(arguments.config, arguments.overrides, arguments.data)
    # Of several workers the chief asks this, when all are there.
    if arguments.strategy != MULTIWORKER:
        config = continued("pretrain", config, arguments.run_dir)
        if is_finished(config, arguments.run_dir):
            return
    require_folder(Path(config.data.path))
    import_tensorflow()
    from deeplens_tf.training.pretraining import pretrain

    run = pretrain(config, arguments.config, arguments.run_dir, arguments.strategy)
    if not run.folder.is_dir():  # another worker's, who is the chief
        return
    print_lines(f"encoder: {run.encoder}")
    print_lines(
        f"next: python -m deeplens_tf.finetune --head classification --encoder {run.folder}"
    )


if __name__ == "__main__":
    run_stage(main)
