"""`python -m deeplens_tf.pretrain`: images without labels to `encoder.keras`."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deeplens_tf.cli import (
    MULTIWORKER,
    StageParser,
    add_run_options,
    catalog_override,
    next_command,
    run_stage,
    stage_parser,
)
from deeplens_tf.config import Config
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.folders import require_folder
from deeplens_tf.files.products import pinned_encoder
from deeplens_tf.option_use import PRETRAIN, load_stage_config
from deeplens_tf.runs.resuming import open_run, point_to_run
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.startup import import_for_stage, name_compiled_operations
from deeplens_tf.terminal import print_lines

PRETRAIN_CONFIG = "contrastive"


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "pretrain",
        "Pretrain an encoder on lens images, without their labels. "
        "Example: python -m deeplens_tf.pretrain --config byol --data my_images",
    )
    add_run_options(parser, config=PRETRAIN_CONFIG)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    point_to_run(arguments, "pretrain", PRETRAIN_CONFIG)
    config = with_folder_settings(
        load_stage_config(
            PRETRAIN,
            arguments.config,
            arguments.overrides,
            arguments.data,
            own=catalog_override(arguments),
        )
    )
    config = with_pinned_encoder(config)
    opened = None
    if arguments.strategy != MULTIWORKER:  # of several workers, the chief opens the run
        opened = open_run("pretrain", config, arguments.run_dir)
        if opened.finished:
            return
    require_folder(Path(config.data.path))
    if arguments.profile:
        name_compiled_operations()
    import_for_stage()
    from deeplens_tf.training.pretraining import pretrain

    options = (arguments.run_dir, arguments.strategy, opened, arguments.profile)
    run = pretrain(config, arguments.config, *options)
    if not run.folder.is_dir():  # this worker is not the chief
        return
    print_lines(f"encoder: {run.encoder}")
    print_lines(f"next: {_next(arguments, run)}")


def with_pinned_encoder(config: Config) -> Config:
    """Return the configuration with the commit of an encoder that a name of the hub refers to."""
    encoder = config.pretrain.encoder
    if encoder is None:
        return config
    return replace(config, pretrain=replace(config.pretrain, encoder=pinned_encoder(encoder)))


def _next(arguments: Namespace, run: Run) -> str:
    heads = run.facts().get("possible_heads", ["classification"])  # unknown in an earlier run
    if heads:
        return next_command(arguments, "finetune", "--head", heads[0], "--encoder", run.folder)
    command = next_command(arguments, "finetune", "--encoder", run.folder)
    return (
        "fine-tuning needs images in one folder for each class, or with masses: "
        f"{command} --data FOLDER"
    )


if __name__ == "__main__":
    run_stage(main)
