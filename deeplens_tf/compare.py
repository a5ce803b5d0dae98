"""`python -m deeplens_tf.compare RUN... --out DIR`: evaluated runs in one table and picture."""

from collections.abc import Sequence
from pathlib import Path

from deeplens_tf.cli import StageParser, run_stage, stage_parser
from deeplens_tf.terminal import say


def parser() -> StageParser:
    """Return the stage's command line."""
    words = stage_parser("compare", "Lay evaluated runs of one test set beside each other.")
    words.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="evaluated run folders")
    words.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    return words


def main(words: Sequence[str]) -> None:
    """Run the stage on the command line's words."""
    arguments = parser().parse_args(words)
    from deeplens_tf.evaluation.comparison import (
        QUANTITIES,
        compare,
        markdown_table,
        missing_references,
        read_entries,
    )
    from deeplens_tf.evaluation.comparison_figure import comparison_figure
    from deeplens_tf.evaluation.figures import save_figure

    entries = read_entries(arguments.runs)
    table = compare(entries)
    head = entries[0].head
    text = markdown_table(table, head)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "comparison.md").write_text(text)
    table.to_csv(arguments.out / "comparison.csv", index=False)
    save_figure(comparison_figure(table, QUANTITIES[head]), arguments.out / "comparison.png")
    say(*text.splitlines())
    for name in missing_references(table):
        say(f"not among these runs: the {name}")
    say(f"comparison: {arguments.out}")


if __name__ == "__main__":
    run_stage(main)
