"""Metrics for many weightings of the test images at once.

A function takes `weights` of shape (resamples, n), how often each image counts, and returns
one value per row. A row of ones gives the plain metric; a row of bootstrap counts gives the metric
of that resample. One formula therefore serves both, and resamples need no sorting of their own.
A metric that is undefined for a row (the truths do not vary) is NaN there.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MIN_SPREAD_DEX = 1e-6
"""Truths that spread less than this count as constant: R² would divide rounding by rounding."""


def weighted_r2(
    true_log10: FloatArray, predicted_log10: FloatArray, weights: FloatArray
) -> dict[str, FloatArray]:
    """R², the share of the variance of the truths that the predictions explain.

    Args:
        true_log10: shape (n,), log10 of the true value.
        predicted_log10: shape (n,).
        weights: shape (resamples, n).

    Returns:
        `r2` of shape (resamples,).
    """
    centred = true_log10 - true_log10.mean()  # near zero, so that the squares do not cancel
    total = weights.sum(axis=1)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / total
    spread[spread < total * MIN_SPREAD_DEX**2] = 0.0
    return {"r2": 1.0 - ratio(weights @ (predicted_log10 - true_log10) ** 2, spread)}


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    """Divide, with NaN where the denominator is zero."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def unit_weights(images: int) -> FloatArray:
    """Return the weights of the plain metrics: one row in which each image counts once."""
    return np.ones((1, images))


def plain_numbers(values: FloatArray) -> list[float | None]:
    """Return values as plain numbers, None where they are not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]
