"""`python -m deeplens_tf.search`: the images whose features are most like those of one image."""

from collections.abc import Sequence

from deeplens_tf.cli import (
    StageParser,
    add_plugin_option,
    add_reading_options,
    reading_options,
    run_stage,
    stage_parser,
)
from deeplens_tf.data.image_properties import settings_of
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import counted, print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "search",
        "List the images whose features have the largest cosine similarity to those of one image. "
        "Example: python -m deeplens_tf.search --embeddings embeddings.npz --like lens_17.fits",
    )
    parser.add_argument(
        "--embeddings", required=True, metavar="FILE", help="features that `embed` wrote"
    )
    parser.add_argument(
        "--like",
        required=True,
        metavar="FILE|ID",
        help="the image: its file or id in the embeddings, or with --run an image file",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH|NAME",
        dest="run",
        help="the encoder of the embeddings, to search for an image that is none of them",
    )
    parser.add_argument("--top", type=int, default=12, metavar="N", help="number of images")
    parser.add_argument(
        "--index",
        action="store_true",
        help="compare a part of the images alone, by an index beside the embeddings, which the "
        "first search builds: for more than some millions of images, and approximate",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder to write (without it: <embeddings>-like-<image>-<digits> beside them)",
    )
    add_reading_options(parser)
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    options = reading_options(arguments)
    options |= {"run": arguments.run, "settings": settings_of(arguments.overrides, "search")}
    import_for_stage()
    from deeplens_tf.inference.cells import RECALL_TOP
    from deeplens_tf.inference.searching import search

    words = (arguments.embeddings, arguments.like, arguments.out)
    found = search(*words, top=arguments.top, index=arguments.index, **options)
    print_lines(f"neighbours: {found.table}, of {counted(found.count, 'image')}")
    if found.recall is not None:
        measured = f"its index finds {found.recall:.3f} of the {RECALL_TOP} nearest images"
        print_lines(f"approximate: {measured}, measured on some of them")
    if found.picture is not None:
        print_lines(f"picture: {found.picture}")


if __name__ == "__main__":
    run_stage(main)
