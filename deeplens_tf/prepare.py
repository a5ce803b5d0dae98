"""Prepare a folder of images for training: `python -m deeplens_tf.prepare SOURCE --out DIR`.

Reads every image once, brings it to one size and range, and writes shards that training reads
quickly. The other stages do the same into a cache by themselves; this stage is for doing it
once, elsewhere, or with a look at what is rejected.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deeplens_tf.cli import add_set_option, run_stage, stage_parser
from deeplens_tf.config import Config, load_config
from deeplens_tf.data.folders import require_folder
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.errors import RequestError
from deeplens_tf.startup import import_tensorflow
from deeplens_tf.terminal import print_lines, printable

PICTURES = (".png", ".pdf")  # what `evaluation.figures` writes
SHORTCUTS = {  # option -> the key of the configuration that it sets
    "image_size": "data.image_size",
    "fit": "data.fit",
    "validation_fraction": "data.validation_fraction",
    "seed": "seed",
}


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    options = _parser().parse_args(words)
    if options.out is None and options.preview is None:
        raise RequestError("nothing to do: give --out DIR, --preview FILE.png or both")
    if options.preview is not None:
        _require_picture(options.preview)
    config = load_config(options.config, _overrides(options), data=options.source)
    require_folder(Path(config.data.path))
    import_tensorflow()
    if options.out is not None:
        print_lines(*summary(_prepare(config, options.out), options.out).split("\n"))
        config = replace(config, data=replace(config.data, path=str(options.out)))
    if options.preview is not None:
        from deeplens_tf.evaluation.preview import draw_preview

        draw_preview(config, options.preview)
        print_lines(f"preview: {options.preview}")


def _require_picture(path: Path) -> None:
    """Refuse a picture's path before any work is done for it."""
    if path.suffix not in PICTURES:
        raise RequestError(f"--preview {path}: its name must end in {' or '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise RequestError(f"--preview {path}: there is no folder {path.parent}")


def _prepare(config: Config, out: Path) -> Manifest:
    return prepare_folder(
        Path(config.data.path),
        out,
        image_size=config.data.image_size,
        fit=config.data.fit,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        strict=config.data.strict,
    )


def summary(manifest: Manifest, out: Path) -> str:
    """Return what a prepared folder holds, a line for each split."""
    height, width, bands = manifest.image_shape
    lines = [
        f"{printable(out)}: images of {height} x {width} pixels, {bands} band{'s' * (bands > 1)}"
    ]
    for split in manifest.splits.values():
        counts = ", ".join(f"{printable(name)} {count}" for name, count in split.per_class.items())
        masses = f"; {split.masses} with a mass" if split.masses else ""
        lines.append(f"  {split.name}: {split.count} ({counts or 'unlabelled'}{masses})")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = stage_parser("prepare", "Bring a folder of images to shards for training.")
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="folder of images")
    parser.add_argument("--out", type=Path, metavar="DIR", help="prepared folder to write")
    parser.add_argument(
        "--preview",
        type=Path,
        metavar="FILE.png",
        help="draw some images beside the two views that the pretexts make of them",
    )
    parser.add_argument("--config", default="defaults", metavar="NAME|PATH", help="configuration")
    add_set_option(parser)
    for option, key in SHORTCUTS.items():
        name = f"--{option.replace('_', '-')}"
        same = f"the same as --set {key}=VALUE"
        parser.add_argument(name, default=argparse.SUPPRESS, metavar="VALUE", help=same)
    parser.add_argument("--strict", action="store_true", help="one unusable file is an error")
    return parser


def _overrides(options: argparse.Namespace) -> list[str]:
    given = vars(options)
    words = [f"{key}={given[option]}" for option, key in SHORTCUTS.items() if option in given]
    return [*options.overrides, *words, *(["data.strict=true"] if options.strict else [])]


if __name__ == "__main__":
    run_stage(main)
