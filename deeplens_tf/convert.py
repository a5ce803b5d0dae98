"""`python -m deeplens_tf.convert original.h5 --to encoder.keras`: weights of the original's."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import StageParser, run_stage, stage_parser
from deeplens_tf.errors import RequestError
from deeplens_tf.startup import import_tensorflow
from deeplens_tf.terminal import print_lines


def parser() -> StageParser:
    """Return the stage's command line."""
    words = stage_parser(
        "convert", "Turn an encoder's weights, saved in Keras 2, into one of ours."
    )
    words.add_argument("weights", type=Path, metavar="FILE.h5", help="written by save_weights")
    words.add_argument(
        "--to", type=Path, required=True, metavar="FILE.keras", help="the encoder to write"
    )
    words.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="pixels a side, which a ResNet50's weights do not tell (without it: 64)",
    )
    words.add_argument(
        "--heads",
        type=int,
        metavar="N",
        help="attention heads, which no weights tell (without it: one for every 64 of the width)",
    )
    return words


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    arguments = parser().parse_args(words)
    for option, number in (("--image-size", arguments.image_size), ("--heads", arguments.heads)):
        if number is not None and not 0 < number <= 4096:
            raise RequestError(f"{option} must be from 1 to 4096, not {number}")
    require_new_file(arguments.to)
    if not arguments.weights.is_file():
        raise RequestError(f"{arguments.weights}: no such file")
    import_tensorflow()
    from deeplens_tf.conversion.converting import convert
    from deeplens_tf.saving.keras_files import save_model

    encoder = convert(arguments.weights, arguments.image_size, arguments.heads)
    save_model(encoder, arguments.to)
    height, width, bands = encoder.image_shape
    print_lines(
        f"encoder: {arguments.to}, {encoder.name}, {height} x {width} pixels, bands: {bands}"
    )


def require_new_file(path: Path) -> None:
    """Refuse to write where something is, where nothing can be, or what Keras would not read.

    Raises:
        RequestError: `path` is taken, has no folder or does not end in `.keras`.
    """
    if path.suffix != ".keras":
        raise RequestError(f"--to {path}: the name must end in .keras")
    if path.exists() or path.is_symlink():
        raise RequestError(f"--to {path}: is there already; name a new file")
    if not path.parent.is_dir():
        raise RequestError(f"--to {path}: there is no folder {path.parent}")


if __name__ == "__main__":
    run_stage(main)
