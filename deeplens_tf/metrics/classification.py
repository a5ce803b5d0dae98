"""The metrics of a classifier that `metrics.json` holds.

Arrays in, plain Python numbers out: every value can be written as JSON, and an undefined metric
(the area of a class without test images) is None, never NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.metrics.calibration import (
    calibration_error,
    calibration_interval,
    reliability_curve,
)
from deeplens_tf.metrics.class_intervals import (
    REPORT_COLUMNS,
    Counts,
    area_limits,
    average_precision_limits,
    balanced_accuracy_limits,
    counts_of,
    per_class,
    report_limits,
)
from deeplens_tf.metrics.intervals import Interval, plain_interval, wilson_interval
from deeplens_tf.metrics.ranking import area_under_curve, average_precision
from deeplens_tf.metrics.thresholds import purity_and_completeness
from deeplens_tf.metrics.weighted import FloatArray, plain_numbers, ratio

Metrics = dict[str, Any]

CLASSIFIER_INTERVAL_METHODS = {
    "accuracy, precision, recall, purity, completeness, average precision": "Wilson score",
    "f1": "Wilson score of the overlap",
    "area under the curve": "Newcombe 2006, method 5",
    "means over classes": "MOVER",
    "expected_calibration_error": "bootstrap, MOVER of Wilson scores",
}
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
        `balanced_accuracy` (mean of the recalls in `balanced_accuracy_over`, the classes that are
        present), `macro_average_precision` (mean over `macro_average_precision_over`),
        `per_class_auc` and `average_precision` (one-vs-rest, None for a class that is absent or
        the only one), `n_test`, `counts` per true class, `classes` (the order of the matrix),
        `confusion_matrix` (rows true, columns predicted), `classification_report` (precision,
        recall, F1 and support per class, None for 0/0), `thresholds` (see
        `purity_and_completeness`), `expected_calibration_error` and the `reliability` curve that it
        summarises.

    Raises:
        ValueError: shapes, labels or probabilities that do not match.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    is_class = labels[:, None] == np.arange(len(class_names))  # (n, classes)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    counts = counts_of(matrix)
    areas, precisions = (
        per_class(score, is_class, probabilities) for score in (area_under_curve, average_precision)
    )
    recalls = ratio(counts.hits, counts.true)
    return {
        "macro_auc": _mean(areas),
        "macro_auc_over": _defined(areas, class_names),
        "accuracy": float(counts.hits.sum() / len(labels)),
        "balanced_accuracy": _mean(recalls),
        "balanced_accuracy_over": _defined(recalls, class_names),
        "macro_average_precision": _mean(precisions),
        "macro_average_precision_over": _defined(precisions, class_names),
        "per_class_auc": dict(zip(class_names, plain_numbers(areas), strict=True)),
        "average_precision": dict(zip(class_names, plain_numbers(precisions), strict=True)),
        "n_test": len(labels),
        "counts": dict(zip(class_names, counts.true.tolist(), strict=True)),
        "classes": list(class_names),
        "confusion_matrix": matrix.tolist(),
        "classification_report": _report(counts, class_names),
        "thresholds": purity_and_completeness(is_class, probabilities, class_names),
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
    """95 % intervals of every scalar of `classification_metrics`.

    `CLASSIFIER_INTERVAL_METHODS` says how each is made.

    Args:
        labels: shape (n,), true class indices.
        probabilities: shape (n, classes), rows that sum to 1.
        class_names: one per column of `probabilities`.
        seed: of the bootstrap of the calibration error; the others involve no random numbers.
        resamples: of this bootstrap.

    Returns:
        `macro_auc`, `accuracy`, `balanced_accuracy`, `macro_average_precision`,
        `per_class_auc.<class>`, `average_precision.<class>`, `expected_calibration_error` and
        `classification_report.<class>.<precision|recall|f1>` -> `[low, high]` or None.

    Raises:
        ValueError: as `classification_metrics`.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    is_class = labels[:, None] == np.arange(len(class_names))  # (n, classes)
    counts = counts_of(confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names)))
    limits = {
        "accuracy": wilson_interval(counts.hits.sum(), len(labels)),
        "balanced_accuracy": balanced_accuracy_limits(counts),
        **area_limits(is_class, probabilities, class_names),
        **average_precision_limits(is_class, probabilities, class_names),
        **report_limits(counts, class_names),
    }
    intervals = {name: plain_interval(edges) for name, edges in limits.items()}
    calibration = calibration_interval(labels, probabilities, seed, resamples)
    return intervals | {"expected_calibration_error": calibration}


def _mean(values: FloatArray) -> float | None:
    """Return the mean over the classes in which a metric is defined, None if there are none."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None


def _defined(values: FloatArray, class_names: Sequence[str]) -> list[str]:
    return [name for name, value in zip(class_names, values, strict=True) if np.isfinite(value)]


def _report(counts: Counts, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    hits, true, predicted = counts
    scores = (ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, true + predicted))
    rows = zip(*(plain_numbers(values) for values in scores), true.tolist(), strict=True)
    columns = (*REPORT_COLUMNS, "support")
    return {
        name: dict(zip(columns, row, strict=True))
        for name, row in zip(class_names, rows, strict=True)
    }


def confusion_matrix(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count the images of each (true, predicted) pair of classes: rows true, columns predicted."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes).astype(np.int64)


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
