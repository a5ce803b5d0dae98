"""Figures of a classifier's results on a test set."""

from collections.abc import Mapping, Sequence
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
from deeplens_tf.metrics.classification import checked_classes
from deeplens_tf.metrics.ranking import area_under_curve
from deeplens_tf.metrics.weighted import FloatArray

DIAGONAL: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.2}


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
        The figure; a class that is absent or the only one is named in the legend without a curve.

    Raises:
        ValueError: labels and probabilities that do not match.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    figure = Figure(figsize=(5.6, 5.4))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label="chance", **DIAGONAL)
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
    area = area_under_curve(is_class, scores)
    if np.isnan(area):
        axes.plot([], [], label=f"{name}: area undefined here", color=colour)
        return
    false_positive, true_positive, _ = roc_curve(is_class, scores)
    axes.plot(false_positive, true_positive, label=f"{name}, AUC {area:.3f}", color=colour)


@in_house_style
def confusion_matrix_figure(
    matrix: ArrayLike, class_names: Sequence[str], title: str = ""
) -> Figure:
    """Draw a confusion matrix: counts, coloured by their fraction of the true class.

    Args:
        matrix: shape (classes, classes), rows true, columns predicted.
        class_names: one per row.
        title: of the panel.

    Returns:
        The figure.
    """
    matrix = np.asarray(matrix)
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)  # (classes, classes)
    size = 3.2 + 0.9 * len(matrix)
    figure = Figure(figsize=(size + 0.8, size))
    axes = figure.subplots()
    cells = axes.imshow(fractions, cmap=MATRIX_COLOURS, vmin=0, vmax=1)
    for (row, column), fraction in np.ndenumerate(fractions):
        text = f"{matrix[row, column]:,}\n{fraction:.1%}"
        colour = "black" if fraction > 0.5 else "white"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(matrix)), class_names)
    axes.set_yticks(range(len(matrix)), class_names)
    axes.grid(False)
    name_axes(axes, title or "Confusion matrix", "predicted class", "true class")
    figure.colorbar(cells, label="fraction of the true class", shrink=0.8)
    return figure


@in_house_style
def reliability_figure(
    reliability: Mapping[str, Sequence], calibration_error: float, title: str = ""
) -> Figure:
    """Draw accuracy against confidence, with the number of images of each bin below.

    Args:
        reliability: the columns that `reliability_curve` returns.
        calibration_error: the expected calibration error, named in the legend.
        title: of the upper panel.

    Returns:
        The figure.
    """
    curve = pd.DataFrame({name: list(values) for name, values in reliability.items()})
    filled = curve[curve["count"] > 0].astype(float)
    figure = Figure(figsize=(5.6, 6.2))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], label="calibrated", **DIAGONAL)
    upper.plot(
        filled["confidence"],
        filled["accuracy"],
        "o-",
        color=PALETTE[0],
        label=f"model, calibration error {calibration_error:.3f}",
    )
    upper.set(xlim=(0, 1.02), ylim=(0, 1.02))
    upper.legend(loc="upper left")
    name_axes(upper, title or "Reliability", "", "accuracy (fraction correct)")
    widths = curve["high"] - curve["low"]
    lower.bar(
        curve["low"], curve["count"], widths, align="edge", color=PALETTE[0], edgecolor="white"
    )
    name_axes(lower, "", "confidence (probability of the predicted class)", "images")
    return figure
