"""Figures of a test set's results: arrays in, a matplotlib Figure out."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from deeplens_tf.figures.style import (
    GREY,
    MATRIX_COLOURS,
    PALETTE,
    in_house_style,
    line_colours,
    name_axes,
)
from deeplens_tf.metrics.classification import (
    checked_classes,
    checked_values,
    expected_calibration_error,
)
from deeplens_tf.metrics.weighted import (
    FloatArray,
    area_under_curve,
)

MAX_POINTS_WITH_BARS = 300
"""Up to here each point can carry its own error bar and still be seen."""

IMAGES_PER_BIN = 20
"""A bin of mass with fewer has no percentiles worth drawing."""

NO_DATE = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Producer": None}}
"""Metadata to leave out, by file ending, so that the same figure gives the same bytes."""


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure whole or not at all; the same figure gives the same bytes.

    Args:
        figure: what to write.
        path: ends in `.png` or `.pdf`.

    Raises:
        ValueError: another ending.
        OSError: the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.suffix not in NO_DATE:
        raise ValueError(f"A figure's path must end in {' or '.join(NO_DATE)}. Received: {path}")
    unfinished = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        figure.savefig(unfinished, metadata=NO_DATE[path.suffix], dpi=150)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@in_house_style
def roc_curves(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str], title: str = ""
) -> Figure:
    """Draw the one-vs-rest ROC curve of each class, with its area in the legend.

    Args:
        labels: shape (n,), true class indices.
        probabilities: shape (n, classes).
        class_names: one per column of `probabilities`.
        title: of the panel.

    Returns:
        The figure; a class that is absent or alone is named in the legend without a curve.

    Raises:
        ValueError: labels and probabilities that do not fit together.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    figure = Figure(figsize=(5.6, 5.4))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance")
    for k, colour in enumerate(line_colours(len(class_names))):
        _draw_roc_curve(axes, labels == k, probabilities[:, k], class_names[k], colour)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    name_axes(
        axes, title or "One class against the rest", "false positive rate", "true positive rate"
    )
    axes.legend(loc="lower right")
    return figure


def _draw_roc_curve(
    axes: Axes, is_class: NDArray[np.bool_], scores: FloatArray, name: str, colour: str
) -> None:
    area = area_under_curve(is_class, scores, np.ones((1, len(scores))))[0]
    if np.isnan(area):
        axes.plot([], [], label=f"{name}: area undefined here", color=colour)
        return
    false_positive, true_positive, _ = roc_curve(is_class, scores)
    axes.plot(false_positive, true_positive, label=f"{name}, AUC {area:.3f}", color=colour)


@in_house_style
def confusion_matrix_figure(
    matrix: ArrayLike, class_names: Sequence[str], title: str = ""
) -> Figure:
    """Draw a confusion matrix: counts, coloured by their share of the true class.

    Args:
        matrix: shape (classes, classes), rows true, columns predicted.
        class_names: one per row.
        title: of the panel.

    Returns:
        The figure.
    """
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)  # (classes, classes)
    size = 3.2 + 0.9 * len(matrix)
    figure = Figure(figsize=(size + 0.8, size))
    axes = figure.subplots()
    cells = axes.imshow(shares, cmap=MATRIX_COLOURS, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{matrix[row, column]:,}\n{share:.1%}"
        axes.text(
            column, row, text, ha="center", va="center", color="black" if share > 0.5 else "white"
        )
    axes.set_xticks(range(len(matrix)), class_names)
    axes.set_yticks(range(len(matrix)), class_names)
    axes.grid(False)
    name_axes(axes, title or "Confusion matrix", "predicted class", "true class")
    figure.colorbar(cells, label="share of the true class", shrink=0.8)
    return figure


@in_house_style
def reliability_figure(reliability: Mapping[str, Sequence], title: str = "") -> Figure:
    """Draw accuracy against confidence, with the number of images of each bin below.

    Args:
        reliability: the columns that `metrics.reliability_curve` returns.
        title: of the upper panel.

    Returns:
        The figure.
    """
    curve = pd.DataFrame({name: list(values) for name, values in reliability.items()})
    filled = curve[curve["count"] > 0].astype(float)
    figure = Figure(figsize=(5.6, 6.2))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="calibrated")
    error = expected_calibration_error(dict(reliability))
    upper.plot(
        filled["confidence"],
        filled["accuracy"],
        "o-",
        color=PALETTE[0],
        label=f"model, calibration error {error:.3f}",
    )
    upper.set(xlim=(0, 1.02), ylim=(0, 1.02))
    upper.legend(loc="upper left")
    name_axes(upper, title or "Reliability", "", "accuracy (share correct)")
    widths = curve["high"] - curve["low"]
    lower.bar(
        curve["low"], curve["count"], widths, align="edge", color=PALETTE[0], edgecolor="white"
    )
    name_axes(lower, "", "confidence (probability of the predicted class)", "images")
    return figure


@in_house_style
def predicted_against_true(
    true_log10: ArrayLike,
    predicted_log10: ArrayLike,
    std_dex: ArrayLike | None = None,
    quantity: str = "axion mass / eV",
    title: str = "",
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Draw each prediction over its own truth, and the residuals by mass below.

    Args:
        true_log10: shape (n,), log10 of the true mass in eV.
        predicted_log10: shape (n,), in the same order.
        std_dex: shape (n,), predicted standard deviations, where the model has them: drawn as
            error bars for few points, and as their mean in each bin of mass below.
        quantity: what the logarithm is of, with its unit.
        title: of the upper panel.
        marks: name -> log10 of a true mass, drawn as a vertical line through both panels.

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
    name_axes(upper, title or "Predicted against true", "", f"predicted log10({quantity})")
    name_axes(lower, "", f"true log10({quantity})", "residual (dex)")
    legend = figure.legend(loc="outside lower center", ncols=2)
    legend.legend_handles[0].set_alpha(1)  # one faint point would not be seen
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
    """Draw the residuals' median and spread in bins of equally many images."""
    count = min(10, len(true) // IMAGES_PER_BIN)
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
        look = {"color": "black", "linestyle": ":", "linewidth": 1.4}
        axes.plot(middle, width, label="± mean predicted std", **look)
        axes.plot(middle, -width, **look)


def _draw_marks(panels: Sequence[Axes], marks: Mapping[str, float]) -> None:
    colours = line_colours(2 + len(marks))[2:]  # the first two are the points' and the bins'
    for colour, (name, place) in zip(colours, marks.items(), strict=True):
        for axes in panels:
            label = name if axes is panels[0] else None
            axes.axvline(place, color=colour, linestyle="-.", linewidth=1.4, label=label)


def _point_look(points: int) -> dict[str, Any]:
    """The more points, the more each lets through."""
    opacity = float(np.clip(10 / np.sqrt(points), 0.12, 0.8))
    return {"color": PALETTE[0], "alpha": opacity, "markersize": 4, "markeredgewidth": 0}
