"""Pages with one table, in Markdown."""

from collections.abc import Sequence

Cells = Sequence[str]


def table_page(title: str, head: Cells, lines: Sequence[Cells]) -> str:
    """Return a page with a title and a table."""
    return f"# {title}\n\n{table_text(head, lines)}"


def table_text(head: Cells, lines: Sequence[Cells]) -> str:
    """Return a table, with its line below the head."""
    rows = (head, ["---"] * len(head), *lines)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
