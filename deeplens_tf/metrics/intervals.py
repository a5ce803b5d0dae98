"""95 % intervals in closed form: how far a metric would vary between test sets of the same size.

No interval of a proportion, an area or a mean of them leaves [0, 1], and none has a width of zero
where all test images agree.
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import stdtrit

from deeplens_tf.metrics.weighted import FloatArray

Interval = list[float] | None

Z_95 = NormalDist().inv_cdf(0.975)
SMALLEST_GAP = 1e-12  # from an area of 1, where its variance vanishes


def wilson_interval(hits: ArrayLike, trials: ArrayLike) -> FloatArray:
    """Score interval of a proportion (Wilson 1927, doi:10.2307/2276774).

    Args:
        hits: successes, any shape; for a mean of values in [0, 1], their sum.
        trials: of the same shape.

    Returns:
        Limits in a new last axis, `[low, high]`; NaN where there are no trials.
    """
    hits, trials = np.asarray(hits, np.float64), np.asarray(trials, np.float64)
    n = np.where(trials > 0, trials, np.nan)
    centre = hits + Z_95**2 / 2
    half = Z_95 * np.sqrt(hits * (n - hits) / n + Z_95**2 / 4)
    limits = np.stack([centre - half, centre + half], axis=-1) / (n + Z_95**2)[..., None]
    return np.clip(limits, 0.0, 1.0)


def f1_interval(hits: ArrayLike, true: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """Interval of F1 = 2 J / (1 + J) from Wilson's for the proportion J = hits / union.

    Args:
        hits: images of the class that are predicted as it, any shape.
        true: images of the class.
        predicted: images that are predicted as the class.

    Returns:
        Limits in a new last axis; NaN where there are neither true nor predicted images.
    """
    overlap = wilson_interval(hits, np.asarray(true) + np.asarray(predicted) - np.asarray(hits))
    return 2 * overlap / (1 + overlap)


def area_interval(area: float, positives: int, negatives: int) -> FloatArray:
    """Score interval of an area under the ROC curve.

    Method 5 of Newcombe 2006 (doi:10.1002/sim.2324): the areas A that differ from the measured one
    by at most 1.96 sqrt(V(A)), with the variance of Hanley & McNeil 1982 for exponential
    distributions, made symmetric in the two kinds.

    Args:
        area: the measured area.
        positives: number of images of the class.
        negatives: number of other images.

    Returns:
        `[low, high]`; NaN where positives or negatives are absent.
    """
    if not positives * negatives:
        return np.array([np.nan, np.nan])
    low = _lowest_area(area, positives, negatives)
    return np.array([low, 1.0 - _lowest_area(1.0 - area, positives, negatives)])


def _lowest_area(area: float, positives: int, negatives: int) -> float:
    pairs, others = positives * negatives, (positives + negatives) / 2 - 1

    def beyond(true: float) -> float:
        shared = (1 - true) / (2 - true) + true / (1 + true)
        variance = true * (1 - true) * (1 + others * shared) / pairs
        return area - true - Z_95 * float(np.sqrt(variance))

    highest = min(area, 1.0 - SMALLEST_GAP)
    return brentq(beyond, 0.0, highest) if area > 0 else 0.0


def mean_interval(
    values: FloatArray,
    limits: FloatArray,
    correlation: FloatArray | float = 1.0,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Interval of the mean of some quantities from the interval of each.

    MOVER, the method of variance estimates recovery (Zou & Donner 2008, doi:10.1002/sim.3095,
    section 2): the distances to the limits add up as standard errors do.

    Args:
        values: shape (quantities,).
        limits: shape (quantities, 2).
        correlation: of their errors, shape (quantities, quantities); 1 where it is unknown, which
            gives the mean of the limits, the widest interval.
        weights: of the quantities in the mean, shape (quantities,); None for equal ones.

    Returns:
        `[low, high]`; NaN without quantities.
    """
    if not len(values):
        return np.array([np.nan, np.nan])
    share = np.ones(len(values)) if weights is None else weights
    share = share / share.sum()
    distances = share[:, None] * np.abs(limits - values[:, None])  # (quantities, 2)
    matrix = np.broadcast_to(correlation, (len(values), len(values)))
    half = np.sqrt(np.einsum("is,ij,js->s", distances, matrix, distances))
    return np.clip(share @ values + np.array([-1, 1]) * half, 0.0, 1.0)


def positive_mean_interval(values: FloatArray) -> FloatArray:
    """Student's interval of the logarithm of a mean (Student 1908), for values of at least 0.

    The standard error of the logarithm is that of the mean, relative to the mean. Compared with an
    interval of the mean itself it stays positive and allows for the skewness of errors.

    Args:
        values: shape (n,), such as absolute or squared errors.

    Returns:
        `[low, high]`; NaN for one value, or if all are 0.
    """
    n, mean = len(values), values.mean()
    if n < 2 or not mean:
        return np.array([np.nan, np.nan])
    half = stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n) / mean
    return mean * np.exp([-half, half])


def plain_interval(limits: FloatArray) -> Interval:
    """Return `[low, high]` as plain numbers, None where undefined."""
    return limits.tolist() if np.isfinite(limits).all() else None
