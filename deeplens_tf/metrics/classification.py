"""The metrics of a classifier that `metrics.json` holds.

Arrays in, plain Python numbers out: every value can be written as JSON, and an undefined metric
(the area of a class without test images) is None, never NaN.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.metrics.bootstrap import Interval, bootstrap_intervals
from deeplens_tf.metrics.calibration import (
    calibration_error,
    calibration_interval,
    reliability_curve,
)
from deeplens_tf.metrics.weighted import (
    FloatArray,
    classification_scores,
    first_row,
    report_scores,
    unit_weights,
)

Metrics = dict[str, Any]

COLUMNS = ("precision", "recall", "f1")
SUM_TOLERANCE = 0.02
"""Rows of a bfloat16 softmax add up to 1 only this closely."""


def classification_metrics(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]
) -> Metrics:
    """Score predicted class probabilities.

    Args:
        labels: shape (n,), true class indices.
        probabilities: shape (n, classes), rows that sum to 1.
        class_names: one per column of `probabilities`.

    Returns:
        `macro_auc` (mean of the areas in `macro_auc_over`, None if there are none), `accuracy`,
        `per_class_auc` (one-vs-rest, None for a class that is absent or the only one), `n_test`,
        `counts` per true class, `classes` (the order of the matrix), `confusion_matrix` (rows
        true, columns predicted), `classification_report` (precision, recall, F1 and support per
        class, None for 0/0), `expected_calibration_error` and the `reliability` curve that it
        summarises.

    Raises:
        ValueError: shapes, labels or probabilities that do not match.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    scores = first_row(
        _class_scores(labels, probabilities, unit_weights(len(labels)), class_names=class_names)
    )
    areas = {name: scores[f"per_class_auc.{name}"] for name in class_names}
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    counts = dict(zip(class_names, matrix.sum(axis=1).tolist(), strict=True))
    return {
        "macro_auc": scores["macro_auc"],
        "macro_auc_over": [name for name, area in areas.items() if area is not None],
        "accuracy": scores["accuracy"],
        "per_class_auc": areas,
        "n_test": len(labels),
        "counts": counts,
        "classes": list(class_names),
        "confusion_matrix": matrix.tolist(),
        "classification_report": {
            name: {column: scores[f"classification_report.{name}.{column}"] for column in COLUMNS}
            | {"support": counts[name]}
            for name in class_names
        },
        "expected_calibration_error": calibration_error(labels, probabilities),
        "reliability": reliability_curve(labels, probabilities),
    }


def classification_intervals(
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """95 % bootstrap intervals of every metric of `classification_metrics`.

    These are percentile intervals, except that of the expected calibration error: see
    `calibration_interval`.

    Args:
        labels: shape (n,), true class indices.
        probabilities: shape (n, classes), rows that sum to 1.
        class_names: one per column of `probabilities`.
        seed: of the draws.
        resamples: number of resamples.

    Returns:
        `macro_auc`, `accuracy`, `per_class_auc.<class>`, `expected_calibration_error` and
        `classification_report.<class>.<precision|recall|f1>` -> `[low, high]` or None.

    Raises:
        ValueError: as `classification_metrics`.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    scores = partial(_class_scores, class_names=class_names)
    intervals = bootstrap_intervals(scores, (labels, probabilities), seed, resamples)
    calibration = calibration_interval(labels, probabilities, seed, resamples)
    return intervals | {"expected_calibration_error": calibration}


def confusion_matrix(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count the images of each (true, predicted) pair of classes: rows true, columns predicted."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes).astype(np.int64)


def _class_scores(*arrays: Any, class_names: Sequence[str]) -> dict[str, FloatArray]:
    scores = classification_scores(*arrays, class_names=class_names)
    return scores | report_scores(*arrays, class_names=class_names)


def checked_classes(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the labels and the probabilities as int64 and float64 if they match.

    Raises:
        ValueError: wrong shapes, labels out of range, or rows that are not probabilities.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    if (
        labels.ndim != 1
        or not labels.size
        or probabilities.shape != (len(labels), len(class_names))
    ):
        raise ValueError(
            "labels must have shape (n,) with n >= 1 and probabilities (n, number of class_names). "
            f"Received: labels.shape={labels.shape}, probabilities.shape={probabilities.shape}, "
            f"class_names={list(class_names)}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(
            f"labels must be integers from 0 to {len(class_names) - 1}. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    _check_probabilities(probabilities)
    return labels.astype(np.int64), probabilities


def _check_probabilities(probabilities: FloatArray) -> None:
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"probabilities must be finite. Received: {(~finite).sum()} of {len(probabilities)} "
            f"rows with NaN or infinity, the first at index {finite.argmin()}"
        )
    sums = probabilities.sum(axis=1)
    if probabilities.min() < 0 or np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise ValueError(
            "probabilities must not be negative and each row must sum to 1 (apply a softmax to "
            f"logits first). Received: minimum={probabilities.min():.3g}, row sums from "
            f"{sums.min():.3g} to {sums.max():.3g}"
        )
