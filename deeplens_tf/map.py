"""`python -m deeplens_tf.map`: a sample in two dimensions, by its features."""

from collections.abc import Sequence

from deeplens_tf.cli import StageParser, run_stage, stage_parser
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import counted, print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "map",
        "Draw the images of embeddings in two dimensions: pictures, a page that shows the image of "
        "each point, and files for TensorBoard's projector. Example: python -m deeplens_tf.map "
        "--embeddings embeddings.npz --out map",
    )
    parser.add_argument(
        "--embeddings", required=True, metavar="FILE", help="features that `embed` wrote"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder to write (without it: <embeddings>-map beside them)"
    )
    parser.add_argument(
        "--method",
        choices=("pca", "umap"),
        help="pca: principal components alone; umap: UMAP too (without it: UMAP where umap-learn "
        "is installed)",
    )
    parser.add_argument(
        "--color-by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="class (the folder of an image), mass_ev, or a column of --table; repeatable: the "
        "pictures have the first, the page all (without it: all that are known)",
    )
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="FILE",
        dest="tables",
        help="table of the images with a column file, such as what `predict` wrote; CSV, ECSV, "
        "FITS or Parquet; repeatable",
    )
    parser.add_argument(
        "--points",
        type=int,
        default=20_000,
        metavar="N",
        help="of larger embeddings, so many images are drawn, at equal distances in the file",
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    import_for_stage()
    from deeplens_tf.inference.mapping import map_embeddings

    how = {"method": arguments.method, "color_by": arguments.color_by}
    how |= {"tables": arguments.tables, "points": arguments.points}
    found = map_embeddings(arguments.embeddings, arguments.out, **how)
    first, second = found.explained
    colored = f", colored by {', '.join(found.colorings)}" if found.colorings else ""
    print_lines(
        f"map: {found.folder}, of {counted(found.count, 'image')}{colored}",
        f"principal components: {first:.1%} and {second:.1%} of the variance",
        f"thumbnails: {found.images} of {counted(found.count, 'image')}",
        f"page: {found.folder / 'map.html'}",
        f"TensorBoard: tensorboard --logdir {found.folder / 'projector'}",
    )


if __name__ == "__main__":
    run_stage(main)
