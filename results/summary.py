"""The short table of the study in README.md, between two comments."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from results.pages import table_text

PAGE = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- study -->\n", "<!-- end of study -->\n"
BLOCK = re.compile(f"({BEGIN}.*?{END})", re.DOTALL)
ROWS = (
    *("untrained", "scratch", "scratch_features", "rotation", "noise"),
    *("image", "object", "object_cdm", "supervised_contrastive"),
)
READOUTS = ("probe, 1 %", "probe, all", "fine-tuned, 1 %", "fine-tuned, all")
SKIES = {"clean": "noise-free", "noisy": "noisy"}


def summary(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> str:
    """Return the means over the seeds in Markdown, or "-" where nothing was run.

    Args:
        tables: name of a sky -> its scores, a row of the table for each row, seed and readout.
        titles: of the rows.
    """
    columns = [(sky, readout) for sky in SKIES for readout in READOUTS]
    head = ["pretraining", *(f"{readout}, {SKIES[sky]}" for sky, readout in columns)]
    lines = []
    for name in ROWS:
        cells = [_mean(tables[sky], name, readout) for sky, readout in columns]
        lines.append([titles[name], *cells])
    return table_text(head, lines)


def write_summary(text: str) -> None:
    """Put the table into README.md."""
    begin, _, end = BLOCK.split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(f"{begin}{BEGIN}\n{text}\n{END}{end}", encoding="utf-8")


def _mean(table: pd.DataFrame, row: str, readout: str) -> str:
    if table.empty:
        return "-"
    values = table["value"][(table["row"] == row) & (table["readout"] == readout)]
    return f"{values.mean():.3f}" if len(values) else "-"
