"""Scalar metrics of a test set, for many weightings of its images at once.

Every function takes `weights` of shape (resamples, n), how often each image counts, and returns
one value per row. A row of ones gives the plain metric; a row of bootstrap counts gives the metric
of that resample. One formula therefore serves both, and resamples need no sorting of their own.
A metric that is undefined for a row (a class is absent, the truths do not vary) is NaN there.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MIN_SPREAD_DEX = 1e-6
"""Truths that spread less than this count as constant: R² would divide rounding by rounding."""


def area_under_curve(
    is_positive: NDArray[np.bool_], scores: FloatArray, weights: FloatArray
) -> FloatArray:
    """Area under the ROC curve by ranks: P(positive above negative) + P(tie) / 2.

    The Mann-Whitney form of the area (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).

    Args:
        is_positive: shape (n,).
        scores: shape (n,), higher for positives.
        weights: shape (resamples, n).

    Returns:
        Shape (resamples,); NaN where positives or negatives are absent.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # one per distinct score
    positive = np.add.reduceat((weights * is_positive)[:, order], starts, axis=1)
    negative = np.add.reduceat((weights * ~is_positive)[:, order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2  # ties count half
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return ratio(np.einsum("rg,rg->r", positive, below), pairs)


def classification_scores(
    labels: NDArray[np.int64],
    probabilities: FloatArray,
    weights: FloatArray,
    *,
    class_names: Sequence[str],
) -> dict[str, FloatArray]:
    """Accuracy, one-vs-rest areas and their mean.

    The mean runs over the classes that are present in the unweighted test set. A resample without
    one of them has no mean: an average over fewer classes would be a different metric.

    Args:
        labels: shape (n,), class indices.
        probabilities: shape (n, classes).
        weights: shape (resamples, n).
        class_names: one per column of `probabilities`.

    Returns:
        `macro_auc`, `accuracy` and `per_class_auc.<class>`, each of shape (resamples,).
    """
    is_class = labels[:, None] == np.arange(len(class_names))  # (n, classes)
    areas = np.stack(
        [
            area_under_curve(is_class[:, k], probabilities[:, k], weights)
            for k in range(len(class_names))
        ],
        axis=1,
    )  # (resamples, classes)
    present = is_class.any(axis=0)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return {
        "macro_auc": ratio(areas[:, present].sum(axis=1), np.full(len(areas), present.sum())),
        "accuracy": weights @ correct / weights.sum(axis=1),
        **{f"per_class_auc.{name}": areas[:, k] for k, name in enumerate(class_names)},
    }


def report_scores(
    labels: NDArray[np.int64],
    probabilities: FloatArray,
    weights: FloatArray,
    *,
    class_names: Sequence[str],
) -> dict[str, FloatArray]:
    """Precision, recall and F1 of each class.

    Args:
        labels: shape (n,), class indices.
        probabilities: shape (n, classes).
        weights: shape (resamples, n).
        class_names: one per column of `probabilities`.

    Returns:
        `classification_report.<class>.<precision|recall|f1>`, each of shape (resamples,).
    """
    numbers = np.arange(len(class_names))
    is_class = labels[:, None] == numbers  # (n, classes)
    is_predicted = probabilities.argmax(axis=1)[:, None] == numbers
    parts = (is_class & is_predicted, is_class, is_predicted)
    hits, true, predicted = (weights @ part.astype(np.float64) for part in parts)
    columns = {  # (resamples, classes)
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, true),
        "f1": ratio(2 * hits, true + predicted),
    }
    return {
        f"classification_report.{name}.{column}": values[:, k]
        for k, name in enumerate(class_names)
        for column, values in columns.items()
    }


def regression_scores(
    true_log10: FloatArray, predicted_log10: FloatArray, weights: FloatArray
) -> dict[str, FloatArray]:
    """Mean absolute error, root mean square error (dex) and R².

    Args:
        true_log10: shape (n,), log10 of the true value.
        predicted_log10: shape (n,).
        weights: shape (resamples, n).

    Returns:
        `mae_dex`, `rmse_dex` and `r2`, each of shape (resamples,).
    """
    error = predicted_log10 - true_log10
    centred = true_log10 - true_log10.mean()  # near zero, so that the squares do not cancel
    total = weights.sum(axis=1)
    squared_error = weights @ error**2
    spread = weights @ centred**2 - (weights @ centred) ** 2 / total
    spread[spread < total * MIN_SPREAD_DEX**2] = 0.0
    return {
        "mae_dex": weights @ np.abs(error) / total,
        "rmse_dex": np.sqrt(squared_error / total),
        "r2": 1.0 - ratio(squared_error, spread),
    }


def coverage_scores(
    true_log10: FloatArray, predicted_log10: FloatArray, std_dex: FloatArray, weights: FloatArray
) -> dict[str, FloatArray]:
    """Fraction of truths inside the central 68 % and 95 % of the predicted Gaussians.

    Args:
        true_log10: shape (n,).
        predicted_log10: shape (n,), means of the Gaussians.
        std_dex: shape (n,), their standard deviations.
        weights: shape (resamples, n).

    Returns:
        `coverage_68` and `coverage_95`, each of shape (resamples,); .68 and .95 where the
        predicted uncertainty is right, less where it is too small.
    """
    distance = np.abs(predicted_log10 - true_log10)
    total = weights.sum(axis=1)
    scores = {}
    for percent in (68, 95):
        half_width = NormalDist().inv_cdf(0.5 + percent / 200) * std_dex
        scores[f"coverage_{percent}"] = weights @ (distance <= half_width).astype(float) / total
    return scores


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    """Divide, with NaN where the denominator is zero."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def unit_weights(images: int) -> FloatArray:
    """Return the weights of the plain metrics: one row in which each image counts once."""
    return np.ones((1, images))


def first_row(scores: Mapping[str, FloatArray]) -> dict[str, float | None]:
    """Return the first row's metrics as plain numbers, None where undefined."""
    return {name: plain_numbers(values)[0] for name, values in scores.items()}


def plain_numbers(values: FloatArray) -> list[float | None]:
    """Return values as plain numbers, None where they are not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]
