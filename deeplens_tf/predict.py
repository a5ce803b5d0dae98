"""`python -m deeplens_tf.predict`: what a fine-tuned model says of new images."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import (
    StageParser,
    add_new_images_options,
    add_plugin_option,
    new_images_options,
    parse_shard,
    run_stage,
    stage_parser,
)
from deeplens_tf.data.image_properties import settings_of
from deeplens_tf.files.products import MODEL
from deeplens_tf.inference.given_images import given_images
from deeplens_tf.inference.table_files import suffix_of
from deeplens_tf.runs.run_folder import require_newest_run
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import counted, print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "predict",
        "Write the predictions of a fine-tuned model for image files, which need no labels. "
        "Example: python -m deeplens_tf.predict --run runs/finetune-... cutouts/*.fits",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH",
        dest="run",
        help="the fine-tuning run, or a file of its model (without it: the newest run)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="table to write, .csv, .parquet, .fits or .ecsv (without it: "
        "predictions/<name>-<digits>.csv in the run); the same command goes on with one that was "
        "interrupted",
    )
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="only the I-th of N blocks of the images, from 1, in a table <name>-<I>-of-<N>",
    )
    add_new_images_options(parser)
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    options = new_images_options(arguments)
    given_images(options["data"], options["catalog"], options["catalog_columns"])
    settings = settings_of(arguments.overrides, "predict")
    shard = parse_shard(arguments.shard)
    if arguments.out is not None:
        suffix_of(Path(arguments.out))
    run = arguments.run or require_newest_run(MODEL, "fine-tuning").folder
    import_for_stage()
    from deeplens_tf.inference.predicting import predict

    predictions = predict(run, out=arguments.out, shard=shard, settings=settings, **options)
    count = predictions.count
    print_lines(f"predictions: {predictions.table}, of {counted(count, 'image')}")


if __name__ == "__main__":
    run_stage(main)
