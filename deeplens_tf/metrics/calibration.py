"""Calibration of a classifier: does its confidence equal its accuracy?

The confidence is the probability of the predicted class. Images are put in bins of equal width by
their confidence, open below and closed above (Guo et al. 2017, arXiv:1706.04599, section 2).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.metrics.bootstrap import bootstrap_intervals
from deeplens_tf.metrics.intervals import mean_interval, wilson_interval
from deeplens_tf.metrics.weighted import FloatArray, plain_numbers, ratio, unit_weights

RELIABILITY_BINS = 15

Reliability = dict[str, list[Any]]


def calibration_error(
    labels: NDArray[np.int64], probabilities: FloatArray, bins: int = RELIABILITY_BINS
) -> float:
    """Return the expected calibration error of a test set.

    Args:
        labels: shape (n,), class indices.
        probabilities: shape (n, classes).
        bins: number of bins between 0 and 1.
    """
    weights = unit_weights(len(labels))
    (error,) = weighted_calibration_error(*_confidence(labels, probabilities), weights, bins)
    return float(error)


def weighted_calibration_error(
    confidence: FloatArray,
    correct: NDArray[np.bool_],
    weights: FloatArray,
    bins: int = RELIABILITY_BINS,
) -> FloatArray:
    """Mean gap between confidence and accuracy over the bins (Guo et al. 2017, equation 3).

    Args:
        confidence: shape (n,), probability of the predicted class.
        correct: shape (n,).
        weights: shape (resamples, n), how often each image counts.
        bins: number of bins between 0 and 1.

    Returns:
        Shape (resamples,).
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), _bin_of(confidence, bins)] = confidence - correct
    # A bin's count cancels: its weight times the gap of its means is the gap of its sums.
    return np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)


def reliability_curve(
    labels: NDArray[np.int64], probabilities: FloatArray, bins: int = RELIABILITY_BINS
) -> Reliability:
    """Return the mean confidence and the accuracy in each bin.

    Args:
        labels: shape (n,), class indices.
        probabilities: shape (n, classes).
        bins: number of bins between 0 and 1.

    Returns:
        Columns of length `bins`: `low`, `high`, `count`, mean `confidence` and `accuracy` (both
        None in an empty bin).
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    confidence, correct = _confidence(labels, probabilities)
    index = _bin_of(confidence, bins)
    count = np.bincount(index, minlength=bins)
    return {
        "low": edges[:-1].tolist(),
        "high": edges[1:].tolist(),
        "count": count.tolist(),
        "confidence": plain_numbers(ratio(np.bincount(index, confidence, bins), count)),
        "accuracy": plain_numbers(ratio(np.bincount(index, correct, bins), count)),
    }


def calibration_interval(
    labels: NDArray[np.int64], probabilities: FloatArray, seed: int, resamples: int = 1000
) -> list[float]:
    """95 % interval of the expected calibration error.

    The error sums absolute gaps, so sampling noise biases it upward: the error of a resample lies
    above that of the test set, which lies above the true one. The basic bootstrap interval
    reflects the resamples about the estimate, low = 2 * estimate - high, and so removes the bias
    that they added (Davison & Hinkley 1997, section 5.2). Resamples do not differ where all
    predictions of a bin are correct, so the interval also contains that of the limits of each bin.
    It begins at 0 where a perfectly calibrated model would reach the estimate in at least one test
    set of twenty.

    Args:
        labels: shape (n,), class indices.
        probabilities: shape (n, classes).
        seed: of the draws.
        resamples: number of resamples.

    Returns:
        `[low, high]`, both from 0 to 1.
    """
    confidence, correct = _confidence(labels, probabilities)
    arrays, estimate = (confidence, correct), calibration_error(labels, probabilities)
    edges = bootstrap_intervals(_error_score, arrays, seed, resamples)["error"]
    assert edges is not None  # the error is defined for every resample
    lowest, highest = _limits_of_bins(confidence, correct)
    low, high = min(lowest, 2 * estimate - edges[1]), max(highest, 2 * estimate - edges[0])
    by_chance = estimate <= _error_by_chance(confidence, seed, resamples)
    return [0.0 if by_chance else max(0.0, float(low)), min(1.0, float(high))]


def _limits_of_bins(confidence: FloatArray, correct: NDArray[np.bool_]) -> FloatArray:
    """Return `[low, high]` of the error from Wilson's interval of the accuracy of each bin."""
    index = _bin_of(confidence, RELIABILITY_BINS)
    sums = [np.bincount(index, values) for values in (np.ones(len(index)), correct, confidence)]
    count, hits, total = np.array(sums)[:, sums[0] > 0]
    means, accuracies = total / count, wilson_interval(hits, count)  # (bins,), (bins, 2)
    nearest = np.abs(means - np.clip(means, *accuracies.T))
    farthest = np.abs(accuracies - means[:, None]).max(axis=1)
    gaps, limits = np.abs(hits / count - means), np.stack([nearest, farthest], axis=1)
    return mean_interval(gaps, limits, np.eye(len(gaps)), count)


def _error_score(*arrays: Any) -> dict[str, FloatArray]:
    return {"error": weighted_calibration_error(*arrays)}


def _error_by_chance(confidence: FloatArray, seed: int, resamples: int) -> float:
    """Return the error that a perfectly calibrated model exceeds in one test set of twenty.

    Each prediction is then correct with a probability equal to its confidence, and the gap of a
    bin is nearly normal.
    """
    variances = np.bincount(
        _bin_of(confidence, RELIABILITY_BINS), confidence * (1 - confidence), RELIABILITY_BINS
    )
    draws = np.random.default_rng(seed).normal(size=(resamples, RELIABILITY_BINS))
    errors = np.abs(draws * np.sqrt(variances)).sum(axis=1) / len(confidence)
    return float(np.percentile(errors, 95))


def _confidence(
    labels: NDArray[np.int64], probabilities: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the probability of each predicted class, and whether the prediction is correct."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _bin_of(confidence: FloatArray, bins: int) -> NDArray[np.intp]:
    return np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)
