"""`python -m deeplens_tf.embed`: the features that an encoder has for new images."""

from collections.abc import Sequence

from deeplens_tf.cli import (
    StageParser,
    add_new_images_options,
    add_plugin_option,
    new_images_options,
    run_stage,
    stage_parser,
)
from deeplens_tf.data.image_properties import settings_of
from deeplens_tf.files.products import ENCODER, MODEL
from deeplens_tf.inference.given_images import given_images
from deeplens_tf.runs.run_folder import require_newest_run
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import counted, print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "embed",
        "Write the features of a frozen encoder for image files. Example: python -m "
        "deeplens_tf.embed --run vit_nano_same_lens cutouts/*.fits --out embeddings.npz",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH|NAME",
        dest="run",
        help="a pretraining or fine-tuning run, a file of an encoder or model, the name of a "
        "shipped encoder, or hf://OWNER/NAME[@REVISION] (without it: the newest run)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="file to write, .npz or .parquet (without it: an .npz in embeddings/ of the run)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="write the pooled output of this layer, such as block_2 (a wrong name lists them)",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="take the same network with the initial weights of its run, for comparison",
    )
    add_new_images_options(parser)
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    options = new_images_options(arguments)
    given_images(options["data"], options["catalog"], options["catalog_columns"])
    settings = settings_of(arguments.overrides, "embed")
    run = arguments.run or require_newest_run(ENCODER, "trained", MODEL).folder
    import_for_stage()
    from deeplens_tf.inference.embedding import embed

    how = {"layer": arguments.layer, "control": arguments.control}
    found = embed(run, out=arguments.out, settings=settings, **how, **options)
    images = counted(found.count, "image")
    print_lines(f"embeddings: {found.file}, of {images}, {found.dim} features each")


if __name__ == "__main__":
    run_stage(main)
