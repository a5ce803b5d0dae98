"""Convert the original's Keras 2 weights to an encoder: `python -m deeplens_tf.convert`."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import StageParser, run_stage, stage_parser
from deeplens_tf.errors import RequestError
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import print_lines

MAX_NUMBER = 4096  # of pixels a side, and of heads


def build_parser() -> StageParser:
    """Return the parser of the command line."""
    parser = stage_parser(
        "convert",
        "Convert an encoder's weights, saved by Keras 2, to an encoder of this package. "
        "Example: python -m deeplens_tf.convert vit.h5 --to encoder.keras",
    )
    parser.add_argument("weights", type=Path, metavar="FILE.h5", help="written by save_weights")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FILE.keras", help="the encoder to write"
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="pixels a side, which a ResNet50's weights do not determine (default: 64)",
    )
    parser.add_argument(
        "--heads",
        type=int,
        metavar="N",
        help="attention heads, which no weights determine (default: width / 64)",
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Convert the file that the command line names.

    Args:
        argv: the command line after the module's name.

    Raises:
        RequestError: an option is invalid, or the file does not fit either encoder.
    """
    arguments = build_parser().parse_args(argv)
    for option, number in (("--image-size", arguments.image_size), ("--heads", arguments.heads)):
        if number is not None and not 0 < number <= MAX_NUMBER:
            raise RequestError(f"{option} must be from 1 to {MAX_NUMBER}. Received: {number}")
    require_new_file(arguments.to)
    if not arguments.weights.is_file():
        raise RequestError(f"{arguments.weights}: no such file")
    import_for_stage()
    from deeplens_tf.conversion.converting import convert
    from deeplens_tf.saving.keras_files import save_model

    encoder = convert(arguments.weights, arguments.image_size, arguments.heads)
    save_model(encoder, arguments.to)
    height, width, bands = encoder.image_shape
    print_lines(
        f"encoder: {arguments.to}, {encoder.name}, {height} x {width} pixels, bands: {bands}"
    )


def require_new_file(path: Path) -> None:
    """Refuse a path that exists, cannot be written, or that Keras would not read.

    Raises:
        RequestError: `path` exists, its folder doesn't, or it does not end in `.keras`.
    """
    if path.suffix != ".keras":
        raise RequestError(f"--to {path}: the name must end in .keras")
    if path.exists() or path.is_symlink():
        raise RequestError(f"--to {path}: already exists; name a new file")
    if not path.parent.is_dir():
        raise RequestError(f"--to {path}: there is no folder {path.parent}")


if __name__ == "__main__":
    run_stage(main)
