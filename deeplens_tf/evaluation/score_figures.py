"""The figures of a report, by what was predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deeplens_tf.figures.classifier_figures import (
    confusion_matrix_figure,
    reliability_figure,
    roc_curves,
)
from deeplens_tf.figures.mass_figures import predicted_against_true
from deeplens_tf.preprocessing.target import Target


def class_figures(
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    metrics: Mapping[str, Any],
) -> dict[str, Figure]:
    """Return the figures of a classification by the names of their files.

    Args:
        labels: shape (n,), true class indices.
        probabilities: shape (n, classes).
        class_names: one per column of `probabilities`.
        metrics: as `classification_metrics` returns.
    """
    error = metrics["expected_calibration_error"]
    return {
        "roc_curves": roc_curves(labels, probabilities, class_names),
        "confusion_matrix": confusion_matrix_figure(metrics["confusion_matrix"], class_names),
        "reliability": reliability_figure(metrics["reliability"], error),
    }


def value_figures(
    true: ArrayLike, predicted: ArrayLike, std: ArrayLike | None, target: Target
) -> dict[str, Figure]:
    """Return the figures of a regression by the names of their files.

    Args:
        true: shape (n,), on the scale of the target.
        predicted: the same shape.
        std: the same shape, predicted standard deviations; None without them.
        target: the quantity.
    """
    scale: dict[str, Any] = {"log10": target.log10, "error_unit": target.error_unit}
    figure = predicted_against_true(true, predicted, std, target.quantity, **scale)
    return {"predicted_against_true": figure}
