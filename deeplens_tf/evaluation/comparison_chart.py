"""The figure of a comparison: a dot with its interval for each combination of settings."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deeplens_tf.evaluation.comparison import DIFFERING, quantities_of
from deeplens_tf.evaluation.run_entries import BASELINE, CONTROL
from deeplens_tf.figures.style import PALETTE, QUANTITY_LABELS, in_house_style, name_axes

REFERENCES = (BASELINE, CONTROL)
MAX_DIFFERENCE_LENGTH = 60


@in_house_style
def comparison_figure(
    table: pd.DataFrame, quantities: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Draw the quantities of each row with their 95 % intervals, references in another colour.

    Args:
        table: as `compare_runs` returns.
        quantities: the columns to draw, one panel each; None for all quantities of the table.
        title: of the figure.

    Raises:
        ValueError: no rows.
    """
    if table.empty:
        raise ValueError("table must have rows. Received: none")
    quantities = quantities_of(table) if quantities is None else quantities
    lines = 3 if table[DIFFERING].any() else 2
    size = (4.2 * len(quantities) + 3.2, (0.2 * lines + 0.05) * len(table) + 1.7)
    figure = Figure(figsize=size)
    panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for axes, quantity in zip(panels, quantities, strict=True):
        _draw_quantity(axes, table, quantity)
    panels[0].set_yticks(range(len(table)), [_name(row) for _, row in table.iterrows()])
    panels[0].invert_yaxis()
    figure.suptitle(title or "Evaluated runs, with 95 % intervals")
    return figure


def _draw_quantity(axes: Axes, table: pd.DataFrame, quantity: str) -> None:
    for height, (_, row) in enumerate(table.iterrows()):
        value = row[quantity]
        # A bootstrap interval need not contain its estimate: no bar of negative length.
        low = max(value - row[f"{quantity}_low"], 0.0)
        high = max(row[f"{quantity}_high"] - value, 0.0)
        colour = PALETTE[1] if row["method"] in REFERENCES else PALETTE[0]
        bars = None if np.isnan([low, high]).any() else [[low], [high]]
        axes.errorbar(value, height, xerr=bars, fmt="o", color=colour, capsize=3)
    name_axes(axes, "", QUANTITY_LABELS.get(quantity, quantity), "")


def _name(row: pd.Series) -> str:
    augmentations = f" ({row['augmentations']})" if row["augmentations"] else ""
    seeds = f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
    lines = [f"{row['method']}{augmentations}", f"{row['readout']}, {row['labels']} labels{seeds}"]
    if row[DIFFERING]:
        lines.append(textwrap.shorten(row[DIFFERING], MAX_DIFFERENCE_LENGTH, placeholder=" ..."))
    return "\n".join(lines)
