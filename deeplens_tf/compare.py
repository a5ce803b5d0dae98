"""`python -m deeplens_tf.compare RUN... --out DIR`: evaluated runs in one table and picture."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import StageParser, run_stage, stage_parser
from deeplens_tf.errors import RequestError
from deeplens_tf.terminal import print_lines


def parser() -> StageParser:
    """Return the stage's command line."""
    words = stage_parser(
        "compare",
        "Lay evaluated runs of one test set beside each other: comparison.md, comparison.csv and "
        "comparison.png, and their histories in training_curves.png. Runs that differ by their "
        "seeds alone are averaged.",
    )
    words.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="evaluated run folders")
    words.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    return words


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    arguments = parser().parse_args(words)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise RequestError(f"--out {arguments.out}: a file is there; name a folder")
    from deeplens_tf.evaluation.comparison import (
        QUANTITIES,
        compare,
        markdown_table,
        missing_references,
        read_entries,
    )
    from deeplens_tf.evaluation.comparison_figure import comparison_figure
    from deeplens_tf.evaluation.run_histories import read_histories
    from deeplens_tf.figures.picture_files import save_figure
    from deeplens_tf.figures.training_curves import training_curves

    entries = read_entries(arguments.runs)
    table = compare(entries)
    histories = read_histories(arguments.runs)
    head = entries[0].head
    text = markdown_table(table, head)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "comparison.md").write_text(text)
    table.to_csv(arguments.out / "comparison.csv", index=False)
    save_figure(comparison_figure(table, QUANTITIES[head]), arguments.out / "comparison.png")
    if histories:
        save_figure(training_curves(histories), arguments.out / "training_curves.png")
    print_lines(*text.splitlines())
    for name in missing_references(entries):
        print_lines(f"not among these runs: the {name}")
    print_lines(f"comparison: {arguments.out}")


if __name__ == "__main__":
    run_stage(main)
