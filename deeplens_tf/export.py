"""`python -m deeplens_tf.export`: a model with its preprocessing, for other programs."""

from collections.abc import Sequence

from deeplens_tf.cli import StageParser, add_plugin_option, run_stage, stage_parser
from deeplens_tf.files.products import EXPORTS, encoder_file
from deeplens_tf.startup import import_for_stage
from deeplens_tf.terminal import print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "export",
        "Write a fine-tuned model or an encoder, with its preprocessing inside, as a file that "
        "takes raw pixels. Example: "
        "python -m deeplens_tf.export --run vit_nano_same_lens --format onnx",
    )
    parser.add_argument(
        "--run",
        "--run-dir",
        required=True,
        metavar="RUN|FILE|NAME",
        dest="run",
        help="a run folder, a .keras file of a fine-tuned model or of an encoder, the name of a "
        "shipped encoder, or hf://OWNER/NAME[@REVISION]",
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=EXPORTS,
        help="for TensorFlow, onnxruntime, LiteRT or Keras",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder to write (without it: exports/<format> in the run; of a shipped encoder, "
        "exports/<name>/<format>)",
    )
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    encoder_file(arguments.run)  # a wrong path is refused before TensorFlow is imported
    import_for_stage()
    from deeplens_tf.inference.exporting import export

    file = export(arguments.run, arguments.format, arguments.out)
    print_lines(f"export: {file}, with its model card {file.with_name('README.md')}")


if __name__ == "__main__":
    run_stage(main)
