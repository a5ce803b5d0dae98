"""`python -m deeplens_tf.finetune`: an encoder and labelled images to `model.keras`."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplens_tf.cli import MULTIWORKER, StageParser, add_run_options, run_stage, stage_parser
from deeplens_tf.config import FROM_SCRATCH, Config, load_config
from deeplens_tf.data.folders import require_folder
from deeplens_tf.dataclass_parsing import to_plain
from deeplens_tf.files.products import ENCODER
from deeplens_tf.runs.resuming import continued, is_finished, point_to_run
from deeplens_tf.runs.run_folder import newest_run, run_of
from deeplens_tf.startup import import_tensorflow
from deeplens_tf.terminal import print_lines

CONFIG = "finetune"


def parser() -> StageParser:
    """Return the stage's command line."""
    words = stage_parser("finetune", "Train an encoder with a head on labelled images.")
    add_run_options(words, config=CONFIG)
    words.add_argument("--head", choices=["classification", "regression"], help="what to predict")
    words.add_argument(
        "--encoder",
        metavar="RUN|FILE|none",
        help="where the encoder comes from; none: random weights, the supervised baseline "
        "(without it: the newest pretraining run)",
    )
    words.add_argument("--freeze", action="store_true", help="train the head alone")
    words.add_argument("--fraction", metavar="F", help="share of the training labels to use")
    return words


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    arguments = parser().parse_args(words)
    point_to_run(arguments, "finetune", CONFIG)
    config = resolve_config(arguments)
    # Of several workers the chief asks this, when all are there.
    if arguments.strategy != MULTIWORKER:
        config = continued("finetune", config, arguments.run_dir)
        if is_finished(config, arguments.run_dir):
            return
    require_folder(Path(config.data.path))
    import_tensorflow()
    from deeplens_tf.training.finetuning import finetune

    run = finetune(config, arguments.config, arguments.run_dir, arguments.strategy)
    if not run.folder.is_dir():  # another worker's, who is the chief
        return
    print_lines(f"model: {run.model}")
    print_lines(f"next: python -m deeplens_tf.evaluate --run {run.folder}")


def resolve_config(arguments: Namespace) -> Config:
    """Return the configuration with the encoder named, on the data it was pretrained on."""
    overrides = [*arguments.overrides, *_as_overrides(arguments)]
    encoder = load_config(arguments.config, overrides).finetune.encoder or _newest_encoder()
    settled = _settled_by(encoder)
    config = load_config(arguments.config, overrides, arguments.data, settled)
    return replace(config, finetune=replace(config.finetune, encoder=encoder))


def _as_overrides(arguments: Namespace) -> list[str]:
    given = {key: getattr(arguments, key) for key in ("head", "encoder", "fraction")}
    # As JSON, so as YAML: a path is text even where YAML would read a date or a comment in it.
    words = [f"finetune.{k}={json.dumps(v)}" for k, v in given.items() if v is not None]
    return words + (["finetune.freeze=true"] if arguments.freeze else [])


def _newest_encoder() -> str:
    run = newest_run(ENCODER)
    if run is None:
        print_lines("encoder: no pretraining run under runs/; training from random weights")
        return FROM_SCRATCH
    print_lines(f"encoder: {run.encoder}, of the newest pretraining run")
    return str(run.folder)


def _settled_by(encoder: str) -> dict[str, Any]:
    """Return the data and encoder sections that the encoder's own run settled, if it has one."""
    run = run_of(Path(encoder))
    if run is None:
        return {}
    config = run.load_config()
    return {"data": to_plain(config.data), "encoder": to_plain(config.encoder)}


if __name__ == "__main__":
    run_stage(main)
