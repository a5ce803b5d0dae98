"""What `metrics.json` says about predictions on a test set.

Arrays in, plain Python numbers out: every value can be written as JSON, and a figure that is not
defined (the area of a class without test images) is None, never NaN.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.metrics.bootstrap import Interval, bootstrap_intervals
from deeplens_tf.metrics.weighted import (
    FloatArray,
    _first,
    _plain,
    bin_of,
    calibration_error,
    classification_scores,
    ratio,
    report_scores,
)

Metrics = dict[str, Any]

RELIABILITY_BINS = 15
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
        `macro_auc` (mean of the areas in `macro_auc_over`, None when there is none), `accuracy`,
        `per_class_auc` (one-vs-rest, None for a class that is absent or alone), `n_test`,
        `counts` per true class, `classes` (the order of the matrix), `confusion_matrix` (rows
        true, columns predicted), `classification_report`, `expected_calibration_error` and the
        `reliability` curve it sums up.

    Raises:
        ValueError: shapes, labels or probabilities that do not fit together.
    """
    labels, probabilities = checked_classes(labels, probabilities, class_names)
    once = np.ones((1, len(labels)))
    scores = _first(classification_scores(labels, probabilities, once, class_names=class_names))
    areas = {name: scores[f"per_class_auc.{name}"] for name in class_names}
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    reliability = reliability_curve(labels, probabilities)
    return {
        "macro_auc": scores["macro_auc"],
        "macro_auc_over": [name for name, area in areas.items() if area is not None],
        "accuracy": scores["accuracy"],
        "per_class_auc": areas,
        "n_test": len(labels),
        "counts": dict(zip(class_names, matrix.sum(axis=1).tolist(), strict=True)),
        "classes": list(class_names),
        "confusion_matrix": matrix.tolist(),
        "classification_report": classification_report(matrix, class_names),
        "expected_calibration_error": expected_calibration_error(reliability),
        "reliability": reliability,
    }


def classification_intervals(
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """95 % bootstrap intervals of every figure of `classification_metrics`.

    That of the expected calibration error is another kind, see `calibration_interval`.

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


def calibration_interval(
    labels: NDArray[np.int64], probabilities: FloatArray, seed: int, resamples: int = 1000
) -> list[float]:
    """95 % interval of the expected calibration error, which adds up absolute gaps.

    Chance can only add to such a sum: a resample's error lies above that of the test set, as that
    lies above the true one. The basic interval turns the resamples around the figure, low = 2 *
    figure - high, and so takes off what they have added (Davison & Hinkley 1997, section 5.2). It
    begins at 0 where a model without any error would reach the figure by chance in one test set
    of twenty or more.

    Args:
        labels: shape (n,).
        probabilities: shape (n, classes).
        seed: of the draws.
        resamples: number of resamples.

    Returns:
        `[low, high]`, in which the figure itself, being too high, need not lie.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = partial(calibration_error, bins=RELIABILITY_BINS)
    (figure,) = error(confidence, correct, np.ones((1, len(labels))))
    draws = bootstrap_intervals(
        lambda *arrays: {"error": error(*arrays)}, (confidence, correct), seed, resamples
    )
    low, high = (max(0.0, 2 * figure - edge) for edge in reversed(draws["error"]))
    by_chance = figure <= _error_by_chance(confidence, seed, resamples)
    return [0.0 if by_chance else float(low), float(high)]


def _error_by_chance(confidence: FloatArray, seed: int, resamples: int) -> float:
    """Return what the error of a calibrated model reaches in one test set of twenty.

    Whether it is right is then drawn with its own probabilities; a bin's gap is nearly normal.
    """
    variances = np.bincount(
        bin_of(confidence, RELIABILITY_BINS), confidence * (1 - confidence), RELIABILITY_BINS
    )
    draws = np.random.default_rng(seed).normal(size=(resamples, RELIABILITY_BINS))
    errors = np.abs(draws * np.sqrt(variances)).sum(axis=1) / len(confidence)
    return float(np.percentile(errors, 95))


def confusion_matrix(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count the images of each (true, predicted) pair of classes: rows true, columns predicted."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes).astype(np.int64)


def classification_report(
    matrix: NDArray[np.int64], class_names: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Precision, recall, F1 and support of each class; None where it would be 0/0."""
    hits, true, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    columns = {
        "precision": _plain(ratio(hits, predicted)),
        "recall": _plain(ratio(hits, true)),
        "f1": _plain(ratio(2 * hits, true + predicted)),
        "support": true.tolist(),
    }
    return {
        name: {column: values[k] for column, values in columns.items()}
        for k, name in enumerate(class_names)
    }


def reliability_curve(
    labels: NDArray[np.int64], probabilities: FloatArray, bins: int = RELIABILITY_BINS
) -> dict[str, list]:
    """How often the model is right when it says how sure it is.

    Images are put in bins of equal width, open below and closed above, by the probability of the
    predicted class (Guo et al. 2017, arXiv:1706.04599, section 2).

    Args:
        labels: shape (n,).
        probabilities: shape (n, classes).
        bins: number of bins between 0 and 1.

    Returns:
        Columns of length `bins`: `low`, `high`, `count`, mean `confidence` and `accuracy` (both
        None in an empty bin).
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    confidence = probabilities.max(axis=1)
    index = bin_of(confidence, bins)
    correct = probabilities.argmax(axis=1) == labels
    count = np.bincount(index, minlength=bins)
    return {
        "low": edges[:-1].tolist(),
        "high": edges[1:].tolist(),
        "count": count.tolist(),
        "confidence": _plain(ratio(np.bincount(index, confidence, bins), count)),
        "accuracy": _plain(ratio(np.bincount(index, correct, bins), count)),
    }


def expected_calibration_error(reliability: dict[str, list]) -> float:
    """Mean gap between confidence and accuracy, by count (Guo et al. 2017, equation 3)."""
    columns = (reliability[name] for name in ("count", "confidence", "accuracy"))
    gaps = [
        (count, abs(sure - right)) for count, sure, right in zip(*columns, strict=True) if count
    ]
    return sum(count * gap for count, gap in gaps) / sum(count for count, _ in gaps)


def _class_scores(*arrays: NDArray, class_names: Sequence[str]) -> dict[str, FloatArray]:
    scores = classification_scores(*arrays, class_names=class_names)
    return scores | report_scores(*arrays, class_names=class_names)


def checked_classes(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the labels and the probabilities as int64 and float64 if they fit together.

    Raises:
        ValueError: shapes, labels out of range, or rows that are no probabilities.
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
    broken = ~np.isfinite(probabilities).all(axis=1)
    if broken.any():
        raise ValueError(
            f"probabilities must be finite. Received: {broken.sum()} of {len(broken)} rows with "
            f"NaN or infinity, the first at index {broken.argmax()}"
        )
    sums = probabilities.sum(axis=1)
    if probabilities.min() < 0 or np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise ValueError(
            "probabilities must not be negative and each row must sum to 1 (logits need a softmax "
            f"first). Received: minimum={probabilities.min():.3g}, row sums from "
            f"{sums.min():.3g} to {sums.max():.3g}"
        )
