"""Scalar scores of a whole test set at once, for many weightings of its images.

Every function takes `weights` of shape (resamples, n), how often each image counts, and returns
one figure per row. A row of ones is the plain score; a row of bootstrap counts is the score of
that resample. One formula therefore serves both, and no resample is ever sorted again.
A figure that is not defined for a row (a class absent, no spread) is NaN there.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MIN_SPREAD_DEX = 1e-6
"""Truths that spread less than this are constant: R² would divide rounding by rounding."""


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

    The mean runs over the classes that are present in the unweighted test set. A resample that
    has lost one of them has no mean: averaging over fewer classes would be another figure.

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


def calibration_error(
    confidence: FloatArray, correct: NDArray[np.bool_], weights: FloatArray, bins: int
) -> FloatArray:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3).

    Args:
        confidence: shape (n,), probability of the predicted class.
        correct: shape (n,).
        weights: shape (resamples, n).
        bins: of equal width between 0 and 1, open below and closed above.

    Returns:
        Shape (resamples,).
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), bin_of(confidence, bins)] = confidence - correct
    # The counts of a bin cancel: its share times the gap of its means is that of its sums.
    return np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)


def bin_of(confidence: FloatArray, bins: int) -> NDArray[np.intp]:
    """Return which of `bins` equal parts of 0 to 1, open below and closed above, each is in."""
    return np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)


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
    """Share of truths inside the central 68 % and 95 % of the predicted Gaussians.

    Args:
        true_log10: shape (n,).
        predicted_log10: shape (n,), means of the Gaussians.
        std_dex: shape (n,), their standard deviations.
        weights: shape (resamples, n).

    Returns:
        `coverage_68` and `coverage_95`, each of shape (resamples,); .68 and .95 where the
        predicted uncertainty is right, less where it is too confident.
    """
    distance = np.abs(predicted_log10 - true_log10)
    total = weights.sum(axis=1)
    scores = {}
    for percent in (68, 95):
        half_width = NormalDist().inv_cdf(0.5 + percent / 200) * std_dex
        scores[f"coverage_{percent}"] = weights @ (distance <= half_width).astype(float) / total
    return scores


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with NaN where the denominator is zero."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _first(scores: dict[str, FloatArray]) -> dict[str, float | None]:
    return {name: _plain(values)[0] for name, values in scores.items()}


def _plain(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
