"""`python -m deeplens_tf.compare RUN... --out DIR`: evaluated runs in one table and figure."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import StageParser, add_plugin_option, run_stage, stage_parser
from deeplens_tf.errors import RequestError
from deeplens_tf.terminal import print_lines


def build_parser() -> StageParser:
    """Return the parser of the stage's command line."""
    parser = stage_parser(
        "compare",
        "Compare evaluated runs on one test set: comparison.md, comparison.csv and "
        "comparison.png, and their histories in training_curves.png. Runs that differ only by "
        "their seeds are averaged. "
        "Example: python -m deeplens_tf.compare runs/classifier runs/baseline --out comparison",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="evaluated run folders")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    add_plugin_option(parser)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the stage with the arguments of the command line."""
    arguments = build_parser().parse_args(argv)
    out: Path = arguments.out
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: a file with this name exists; name a folder")
    from deeplens_tf.evaluation.comparison import compare, markdown_table, missing_references
    from deeplens_tf.evaluation.comparison_chart import comparison_figure
    from deeplens_tf.evaluation.run_entries import read_entries
    from deeplens_tf.evaluation.run_histories import read_histories
    from deeplens_tf.figures.history_figures import training_curves
    from deeplens_tf.figures.picture_files import save_figure

    entries = read_entries(arguments.runs)
    table = compare(entries)
    histories = read_histories(arguments.runs)
    text = markdown_table(table)
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.md").write_text(text)
    table.to_csv(out / "comparison.csv", index=False)
    save_figure(comparison_figure(table), out / "comparison.png")
    if histories:
        save_figure(training_curves(histories), out / "training_curves.png")
    print_lines(*text.splitlines())
    for name in missing_references(entries):
        print_lines(f"missing reference: {name}")
    print_lines(f"comparison: {out}")


if __name__ == "__main__":
    run_stage(main)
