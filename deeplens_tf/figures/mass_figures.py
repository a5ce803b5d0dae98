"""Figures of a regression's results on a test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deeplens_tf.figures.style import PALETTE, in_house_style, line_colours, name_axes
from deeplens_tf.metrics.regression import checked_values
from deeplens_tf.metrics.weighted import FloatArray

MAX_POINTS_WITH_BARS = 300
"""With more points their error bars would hide each other."""

MIN_IMAGES_PER_BIN = 20
"""Percentiles of fewer images are too noisy to draw."""


@in_house_style
def predicted_against_true(
    true_log10: ArrayLike,
    predicted_log10: ArrayLike,
    std_dex: ArrayLike | None = None,
    quantity: str = "axion mass / eV",
    title: str = "",
    marks: Mapping[str, float] | None = None,
    *,
    log10: bool = True,
    error_unit: str = "dex",
) -> Figure:
    """Draw each prediction against its true value, and the residuals below.

    Args:
        true_log10: shape (n,), log10 of the true mass in eV.
        predicted_log10: shape (n,), in the same order.
        std_dex: shape (n,), predicted standard deviations, if the model has them: drawn as
            error bars of the points (if these are few) and as their mean per bin of mass.
        quantity: what is predicted, with its unit.
        title: of the upper panel.
        marks: name -> log10 of a true mass, drawn as a vertical line through both panels.
        log10: whether the arrays are the logarithm of the quantity, as they are of a mass.
        error_unit: of the residuals; "" for none.

    Returns:
        The figure.

    Raises:
        ValueError: arrays of unequal shape, or values that are not finite.
    """
    true, predicted, *deviations = checked_values(true_log10, predicted_log10, std_dex)
    std = deviations[0] if deviations else None
    figure = Figure(figsize=(5.8, 7.4))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2.4, 1))
    _draw_pairs(upper, true, predicted, std)
    _draw_residuals(lower, true, predicted - true)
    _draw_bins_of_mass(lower, true, predicted - true, std)
    _draw_marks((upper, lower), marks or {})
    label = f"log10({quantity})" if log10 else quantity
    unit = f" ({error_unit})" if error_unit else ""
    name_axes(upper, title or "Predicted against true", "", f"predicted {label}")
    name_axes(lower, "", f"true {label}", f"residual{unit}")
    legend = figure.legend(loc="outside lower center", ncols=2)
    if (points := legend.legend_handles[0]) is not None:
        points.set_alpha(1)  # a single transparent point would be too faint
    return figure


def _draw_pairs(
    axes: Axes, true: FloatArray, predicted: FloatArray, std: FloatArray | None
) -> None:
    if std is not None and len(true) <= MAX_POINTS_WITH_BARS:
        axes.errorbar(true, predicted, std, fmt="none", ecolor=PALETTE[0], alpha=0.3, linewidth=1)
    axes.plot(true, predicted, "o", label=f"{len(true):,} images", **_point_look(len(true)))
    ends = [true.min(), true.max()]
    axes.plot(ends, ends, color="black", linestyle="--", linewidth=1.4, label="predicted = true")


def _draw_residuals(axes: Axes, true: FloatArray, residual: FloatArray) -> None:
    axes.plot(true, residual, "o", **_point_look(len(true)))
    axes.axhline(0, color="black", linestyle="--", linewidth=1.4)


def _draw_bins_of_mass(
    axes: Axes, true: FloatArray, residual: FloatArray, std: FloatArray | None
) -> None:
    """Draw the median and the spread of the residuals, in bins of equal numbers of images."""
    count = min(10, len(true) // MIN_IMAGES_PER_BIN)
    if count < 2:
        return
    bins = np.array_split(np.argsort(true, kind="stable"), count)
    middle = [true[index].mean() for index in bins]
    low, median, high = np.array([np.percentile(residual[i], [16, 50, 84]) for i in bins]).T
    axes.fill_between(
        middle, low, high, color=PALETTE[1], alpha=0.3, linewidth=0, label="central 68 %"
    )
    axes.plot(middle, median, color=PALETTE[1], label="median residual")
    if std is not None:
        width = np.array([std[index].mean() for index in bins])
        look: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1.4}
        axes.plot(middle, width, label="± mean predicted std", **look)
        axes.plot(middle, -width, **look)


def _draw_marks(panels: Sequence[Axes], marks: Mapping[str, float]) -> None:
    colours = line_colours(2 + len(marks))[2:]  # the points and the bins have the first two
    for colour, (name, log10_mass) in zip(colours, marks.items(), strict=True):
        for axes in panels:
            label = name if axes is panels[0] else None
            axes.axvline(log10_mass, color=colour, linestyle="-.", linewidth=1.4, label=label)


def _point_look(points: int) -> dict[str, Any]:
    """Return the style of the points: the more there are, the more transparent."""
    opacity = float(np.clip(10 / np.sqrt(points), 0.12, 0.8))
    return {"color": PALETTE[0], "alpha": opacity, "markersize": 4, "markeredgewidth": 0}
