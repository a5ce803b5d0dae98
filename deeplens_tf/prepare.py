"""Prepare a folder of images for training: `python -m deeplens_tf.prepare SOURCE --out DIR`.

Reads every image once, brings it to one size and range, and writes shards that training reads
quickly. The other stages prepare their images themselves, into a cache. Use this stage to prepare
images once for several runs, in another folder, or to check which files are rejected.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deeplens_tf.cli import (
    StageParser,
    add_catalog_option,
    add_plugin_option,
    add_set_option,
    catalog_override,
    run_stage,
    stage_parser,
)
from deeplens_tf.config import Config
from deeplens_tf.cores import available_cores
from deeplens_tf.data.folder_settings import preparation_arguments, with_folder_settings
from deeplens_tf.data.folders import require_folder
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.summary import summarise
from deeplens_tf.errors import RequestError
from deeplens_tf.option_use import PREPARE, PREVIEW, load_stage_config
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import print_lines

# The formats of `figures.picture_files`, which imports matplotlib and would slow down --help.
PICTURE_SUFFIXES = (".png", ".pdf")
SHORTCUTS = {  # option -> the configuration key that it sets
    "image_size": "data.image_size",
    "fit": "data.fit",
    "validation_fraction": "data.validation_fraction",
    "seed": "seed",
}


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    if arguments.out is None and arguments.preview is None:
        raise RequestError("nothing to do: give --out DIR, --preview FILE.png or both")
    if arguments.preview is not None:
        _check_picture_path(arguments.preview)
    config = with_folder_settings(_requested(arguments))
    require_folder(Path(config.data.path))
    if arguments.out is not None:
        how = {**preparation_arguments(config), "jobs": arguments.jobs}
        manifest = prepare_folder(config.data.path, arguments.out, **how)
        print_lines(*summarise(manifest, arguments.out).split("\n"))
        data = replace(config.data, path=str(arguments.out), catalog=None, catalog_columns={})
        config = replace(config, data=data)
    if arguments.preview is not None:
        import_for_stage()  # preparing does without TensorFlow
        from deeplens_tf.evaluation.preview import draw_preview

        draw_preview(config, arguments.preview)
        print_lines(f"preview: {arguments.preview}")


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "prepare",
        "Prepare a folder of images as shards for training. "
        "Example: python -m deeplens_tf.prepare my_images --out prepared --set data.image_size=64",
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="folder of images (default: data.path)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="prepared folder to write")
    parser.add_argument(
        "--preview",
        type=Path,
        metavar="FILE.png",
        help="draw some images next to two augmented views of them",
    )
    parser.add_argument("--config", default="defaults", metavar="NAME|PATH", help="configuration")
    add_set_option(parser)
    add_plugin_option(parser)
    add_catalog_option(parser)
    for option, key in SHORTCUTS.items():
        name = f"--{option.replace('_', '-')}"
        same = f"the same as --set {key}=VALUE"
        parser.add_argument(name, default=argparse.SUPPRESS, metavar="VALUE", help=same)
    parser.add_argument("--jobs", type=int, default=available_cores(), help="processes to use")
    parser.add_argument("--strict", action="store_true", help="one unusable file is an error")
    return parser


def _check_picture_path(path: Path) -> None:
    """Refuse the path of a picture that cannot be written, before any work is done."""
    if path.suffix not in PICTURE_SUFFIXES:
        suffixes = " or ".join(PICTURE_SUFFIXES)
        raise RequestError(f"--preview {path}: its name must end in {suffixes}")
    if not path.parent.is_dir():
        raise RequestError(f"--preview {path}: there is no folder {path.parent}")


def _requested(arguments: argparse.Namespace) -> Config:
    own = [f"{key}={getattr(arguments, o)}" for o, key in SHORTCUTS.items() if o in arguments]
    own += [*catalog_override(arguments), *["data.strict=true"] * arguments.strict]
    stage = PREPARE if arguments.preview is None else PREVIEW
    config, words = arguments.config, arguments.overrides
    return load_stage_config(stage, config, words, arguments.source, own=own)


if __name__ == "__main__":
    run_stage(main)
