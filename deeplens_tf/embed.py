"""`python -m deeplens_tf.embed`: the features that an encoder has for the images of a folder."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import (
    StageParser,
    add_new_images_options,
    add_plugin_option,
    new_images_options,
    run_stage,
    stage_parser,
)
from deeplens_tf.data.folders import require_folder
from deeplens_tf.files.products import ENCODER, MODEL
from deeplens_tf.runs.run_folder import require_newest_run
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import counted, print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "embed",
        "Write the features of a frozen encoder for every image of a folder. Example: python -m "
        "deeplens_tf.embed --run vit_nano_same_lens --data survey --out embeddings.npz",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH|NAME",
        dest="run",
        help="a pretraining or fine-tuning run, a file of an encoder or model, or the name of a "
        "shipped encoder (without it: the newest run)",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="folder of images, in subfolders or not, or of prepared shards",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="file to write, .npz or .parquet (without it: embeddings/<folder>-<digits>.npz in "
        "the run)",
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
    require_folder(Path(arguments.data))
    run = arguments.run or require_newest_run(ENCODER, "trained", MODEL).folder
    import_for_stage()
    from deeplens_tf.inference.embedding import embed

    how = {"layer": arguments.layer, "control": arguments.control}
    found = embed(run, arguments.data, arguments.out, **how, **options)
    images = counted(found.count, "image")
    print_lines(f"embeddings: {found.file}, of {images}, {found.dim} features each")


if __name__ == "__main__":
    run_stage(main)
