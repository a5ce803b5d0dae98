"""Figures of training histories."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deeplens_tf.figures.style import GREY, QUANTITY_LABELS, in_house_style, line_colours, name_axes

NOT_MEASURED = {"epoch", "learning_rate"}


@in_house_style
def training_curves(histories: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """Draw the histories of several runs in one figure, one panel per measured quantity.

    Args:
        histories: run name -> table with one row per epoch: `epoch`, counted from 0 as in
            `history.csv` (without it, rows are counted), quantities, and the same quantities
            on validation under `val_<quantity>`. `learning_rate`, which the configuration
            determines, is not drawn.
        title: of the figure.

    Returns:
        The figure: one colour per run, solid lines for training and dashed ones for validation.
        Epochs are numbered from 1; each point is the value at the end of its epoch.

    Raises:
        ValueError: no history, or none with a quantity.
    """
    quantities = _quantities(histories.values())
    if not quantities:
        raise ValueError(f"histories must contain a quantity to draw. Received: {list(histories)}")
    columns = 2 if len(quantities) in (2, 4) else min(3, len(quantities))
    rows, keys = -(-len(quantities) // columns), _curve_keys(histories)
    width = max(4.2 * columns, 5.0)
    across = _keys_across(keys, width)
    figure = Figure(figsize=(width, 3.0 * rows + 0.25 * -(-len(keys) // across) + 0.6))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, quantity in zip(panels, quantities, strict=False):
        _draw_quantity(axes, quantity, histories)
    for axes in panels[len(quantities) :]:
        axes.remove()
    figure.suptitle(title or "Training")
    figure.legend(handles=keys, loc="outside lower center", ncols=across)
    return figure


def _quantities(histories: Iterable[pd.DataFrame]) -> list[str]:
    """Return the quantities of all runs in order of first appearance."""
    names = (str(column).removeprefix("val_") for table in histories for column in table.columns)
    return [name for name in dict.fromkeys(names) if name not in NOT_MEASURED]


def _draw_quantity(axes: Axes, quantity: str, histories: Mapping[str, pd.DataFrame]) -> None:
    for colour, history in zip(line_colours(len(histories)), histories.values(), strict=True):
        for column, style in ((quantity, "-"), (f"val_{quantity}", "--")):
            if column in history:
                # A quantity measured only every few epochs is NaN in between.
                measured = history[column].notna().to_numpy()
                epochs = history["epoch"] if "epoch" in history else np.arange(len(history))
                marker = (
                    "o" if measured.sum() < 3 else None
                )  # a line through one point is invisible
                across, up = 1 + np.asarray(epochs)[measured], history[column][measured]
                axes.plot(across, up, color=colour, linestyle=style, marker=marker)
    axes.locator_params(axis="x", integer=True)
    name_axes(axes, "", "epoch", QUANTITY_LABELS.get(quantity, quantity.replace("_", " ")))


def _curve_keys(histories: Mapping[str, pd.DataFrame]) -> list[Line2D]:
    colours = line_colours(len(histories))
    keys = [
        Line2D([], [], color=colour, label=run)
        for colour, run in zip(colours, histories, strict=True)
    ]
    columns = {str(column) for table in histories.values() for column in table} - NOT_MEASURED
    on_validation = {column for column in columns if column.startswith("val_")}
    if columns - on_validation:
        keys.append(Line2D([], [], color=GREY, linestyle="-", label="training"))
    if on_validation:
        keys.append(Line2D([], [], color=GREY, linestyle="--", label="validation"))
    return keys


def _keys_across(keys: Sequence[Line2D], width_inches: float) -> int:
    longest = max(len(str(key.get_label())) for key in keys)
    inches = 0.09 * longest + 0.6  # of a key: its text, its line and the gap to the next
    return min(max(1, int(width_inches / inches)), len(keys))
