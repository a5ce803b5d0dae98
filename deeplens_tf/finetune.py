"""`python -m deeplens_tf.finetune`: an encoder and labelled images to `model.keras`."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplens_tf.cli import (
    MULTIWORKER,
    StageParser,
    add_run_options,
    catalog_override,
    next_command,
    run_stage,
    stage_parser,
)
from deeplens_tf.config import FROM_SCRATCH, Config, keys_of_file, load_config
from deeplens_tf.data.folder_settings import with_folder_settings, without_settings_of
from deeplens_tf.data.folders import require_folder
from deeplens_tf.dataclass_parsing import to_plain
from deeplens_tf.files.hub_files import is_hub_name
from deeplens_tf.files.products import ENCODER, encoder_place, pinned_encoder
from deeplens_tf.option_use import FINETUNE, load_stage_config
from deeplens_tf.runs.resuming import open_run, point_to_run
from deeplens_tf.runs.run_folder import Run, newest_run, run_of
from deeplens_tf.startup import import_for_stage, name_compiled_operations
from deeplens_tf.terminal import print_lines

FINETUNE_CONFIG = "finetune"
LOCAL_KEYS = ("path", "cache", "catalog", "catalog_columns")


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "finetune",
        "Train an encoder with a head on labelled images. "
        "Example: python -m deeplens_tf.finetune --encoder vit_nano_same_lens --data my_images",
    )
    add_run_options(parser, config=FINETUNE_CONFIG)
    parser.add_argument("--head", choices=["classification", "regression"], help="what to predict")
    parser.add_argument(
        "--encoder",
        metavar="NAME|RUN|FILE|none",
        help="the encoder to start from, by a shipped name or hf://OWNER/NAME[@REVISION]; none: "
        "random weights, the supervised baseline (without it: the newest pretraining run)",
    )
    parser.add_argument("--freeze", action="store_true", help="train the head only")
    parser.add_argument("--fraction", metavar="F", help="fraction of the training labels to use")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    point_to_run(arguments, "finetune", FINETUNE_CONFIG)
    config = resolve_config(arguments)
    opened = None
    if arguments.strategy != MULTIWORKER:  # of several workers, the chief opens the run
        opened = open_run("finetune", config, arguments.run_dir)
        if opened.finished:
            return
    require_folder(Path(config.data.path))
    if arguments.profile:
        name_compiled_operations()
    import_for_stage()
    from deeplens_tf.training.finetuning import finetune

    options = (arguments.run_dir, arguments.strategy, opened, arguments.profile)
    run = finetune(config, arguments.config, *options)
    if not run.folder.is_dir():  # this worker is not the chief
        return
    print_lines(f"model: {run.model}")
    print_lines(f"next: {_next(arguments, run)}")


def _next(arguments: Namespace, run: Run) -> str:
    command = next_command(arguments, "evaluate", "--run", run.folder)
    if run.facts()["split_counts"].keys() & {"validation", "test"}:
        return command
    return f"a test needs images that were not trained on: {command} --data FOLDER"


def resolve_config(arguments: Namespace) -> Config:
    """Return the configuration, with the encoder filled in and the data it was pretrained on."""
    name, overrides, own = arguments.config, arguments.overrides, _as_overrides(arguments)
    encoder = load_config(name, [*overrides, *own]).finetune.encoder
    if encoder is None:
        encoder = _newest_encoder()
    encoder = pinned_encoder(encoder)
    run = run_of(encoder_place(encoder))
    pretrained = run.load_config() if run else None
    base = _sections(pretrained, is_hub_name(encoder)) if pretrained else {}
    config = load_stage_config(FINETUNE, name, overrides, arguments.data, base, own)
    if pretrained:
        table = [key for key in keys_of_file(name) if key.startswith("data.catalog")]
        config = without_settings_of(pretrained.data, config, [*overrides, *own, *table])
    config = with_folder_settings(config)
    return replace(config, finetune=replace(config.finetune, encoder=encoder))


def _as_overrides(arguments: Namespace) -> list[str]:
    given = {key: getattr(arguments, key) for key in ("head", "encoder", "fraction")}
    # JSON is YAML, and its quotes keep a path text even if it looks like a date or a comment.
    overrides = [f"finetune.{k}={json.dumps(v)}" for k, v in given.items() if v is not None]
    overrides += catalog_override(arguments)
    return overrides + (["finetune.freeze=true"] if arguments.freeze else [])


def _newest_encoder() -> str:
    run = newest_run(ENCODER)
    if run is None:
        print_lines("encoder: no pretraining run under runs/; training from random weights")
        return FROM_SCRATCH
    print_lines(f"encoder: {run.encoder}, of the newest pretraining run")
    return str(run.folder)


def _sections(config: Config, downloaded: bool) -> dict[str, Any]:
    """Return what a fine-tuning takes over: of a downloaded run, no places of this machine."""
    left_out = LOCAL_KEYS if downloaded else ()
    data = {key: value for key, value in to_plain(config.data).items() if key not in left_out}
    return {"data": data, "encoder": to_plain(config.encoder)}


if __name__ == "__main__":
    run_stage(main)
