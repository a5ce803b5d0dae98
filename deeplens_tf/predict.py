"""`python -m deeplens_tf.predict`: what a fine-tuned model says of the images of a folder."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import (
    StageParser,
    add_catalog_option,
    add_plugin_option,
    run_stage,
    stage_parser,
)
from deeplens_tf.data.folders import require_folder
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import MODEL
from deeplens_tf.runs.run_folder import require_newest_run
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import counted, print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "predict",
        "Write the predictions of a fine-tuned model for every image of a folder, with or without "
        "labels.",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH",
        dest="run",
        help="the fine-tuning run, or a file of its model (without it: the newest run)",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="folder of images, in subfolders or not, or of prepared shards",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder to write (without it: predictions/<folder>-<digits> in the run)",
    )
    parser.add_argument(
        "--pixel-scale-arcsec",
        type=float,
        metavar="ARCSEC",
        help="pixel scale of the images (without it: that of their images.yaml, catalogue "
        "or headers, or unknown)",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="resample images of another pixel scale than the model's",
    )
    parser.add_argument(
        "--mixed-sizes",
        action="store_true",
        help="resize images of different sizes all the same, which gives them different pixel "
        "scales",
    )
    add_catalog_option(parser)
    parser.add_argument(
        "--catalog-column",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        dest="catalog_columns",
        help="name of the catalogue's column for file, row, id, ra, dec or pixel_scale, where that "
        "is another one",
    )
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    scale = arguments.pixel_scale_arcsec
    if scale is not None and not 0 < scale < float("inf"):
        raise RequestError(f"--pixel-scale-arcsec must be above 0. Received: {scale}")
    require_folder(Path(arguments.data))
    run = arguments.run or require_newest_run(MODEL, "fine-tuning").folder
    import_for_stage()
    from deeplens_tf.inference.predicting import predict

    predictions = predict(
        run,
        arguments.data,
        arguments.out,
        pixel_scale_arcsec=scale,
        resample=arguments.resample,
        mixed_sizes=arguments.mixed_sizes,
        catalog=arguments.catalog,
        catalog_columns=dict(map(_role_and_name, arguments.catalog_columns)),
    )
    count = predictions.count
    print_lines(f"predictions: {predictions.table}, of {counted(count, 'image')}")


def _role_and_name(argument: str) -> tuple[str, str]:
    role, equals, name = argument.partition("=")
    if not (equals and name):
        raise RequestError(f"--catalog-column {argument}: write it as role=name")
    return role, name


if __name__ == "__main__":
    run_stage(main)
