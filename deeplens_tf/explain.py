"""`python -m deeplens_tf.explain`: maps of what a network looks at in some images."""

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
        "explain",
        "Write maps of what a network looks at in some images, as arrays and as a picture. "
        "Example: python -m deeplens_tf.explain --run runs/classifier cutouts/*.fits --count 12 "
        "--patch 8 --stride 4",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        metavar="PATH|NAME",
        dest="run",
        help="a fine-tuning or pretraining run, a file of a model or encoder, or the name of a "
        "shipped encoder (without it: the newest run)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder to write (without it: explanations/<name>-<digits>-<method> in the run)",
    )
    parser.add_argument(
        "--method",
        choices=("rollout", "occlusion"),
        default="occlusion",
        help="occlusion: how much the prediction, or the features of an encoder, changes where a "
        "patch is covered; rollout: which patches the attention of a Vision Transformer takes",
    )
    parser.add_argument(
        "--count", type=int, default=8, metavar="N", help="images, evenly over all of them"
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="take the same encoder with the initial weights of its run, for comparison",
    )
    cover = parser.add_argument_group("occlusion")
    cover.add_argument(
        "--patch", type=int, metavar="N", help="side in pixels (without it: an eighth of the image)"
    )
    cover.add_argument(
        "--stride", type=int, metavar="N", help="step in pixels (without it: half of --patch)"
    )
    cover.add_argument(
        "--fill",
        choices=("median", "minimum"),
        help="what covers: the image's median (default) or minimum, of each band",
    )
    add_new_images_options(parser)
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    options = new_images_options(arguments)
    given_images(options["data"], options["catalog"], options["catalog_columns"])
    settings = settings_of(arguments.overrides, "explain")
    run = arguments.run or require_newest_run(MODEL, "trained", ENCODER).folder
    import_for_stage()
    from deeplens_tf.inference.explaining import explain

    names = ("method", "count", "control", "patch", "stride", "fill")
    how = {name: getattr(arguments, name) for name in names}
    found = explain(run, out=arguments.out, settings=settings, **how, **options)
    images = counted(len(found.images), "image")
    print_lines(f"explanations: {found.file}, of {images}: {', '.join(found.images)}")
    print_lines(f"picture: {found.picture}")


if __name__ == "__main__":
    run_stage(main)
