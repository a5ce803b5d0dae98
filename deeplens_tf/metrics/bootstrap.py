"""Bootstrap intervals: how far a metric would vary between test sets of the same size."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.metrics.intervals import Interval
from deeplens_tf.metrics.weighted import FloatArray

MetricFunction = Callable[..., dict[str, FloatArray]]

VALUES_AT_ONCE = 2_000_000
"""Counts held in memory at a time: 16 MB, for any number of images and resamples."""


def bootstrap_intervals(
    metric_function: MetricFunction,
    arrays: Sequence[NDArray],
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """95 % percentile intervals of every metric that a function returns.

    Each resample draws as many images as there are, with replacement (Efron & Tibshirani 1993,
    chapter 13). Resamples are represented by counts per image: the function takes the counts of
    many resamples as weights and returns the metrics of all of them.

    Args:
        metric_function: called as `metric_function(*arrays, weights)` with `weights` of shape
            (some resamples, n); returns name -> shape (some resamples,), NaN where undefined.
        arrays: arrays whose first axis is the n test images.
        seed: of the draws; the same seed gives the same intervals.
        resamples: number of resamples.

    Returns:
        Name -> `[low, high]` over the resamples in which the metric is defined; None if there are
        no such resamples.

    Raises:
        ValueError: no arrays, no images, unequal lengths, or fewer than one resample.
    """
    images = _common_length(arrays)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1. Received: resamples={resamples}")
    generator = np.random.default_rng(seed)
    parts = [metric_function(*arrays, weights) for weights in _counts(images, resamples, generator)]
    return {name: _interval(np.concatenate([part[name] for part in parts])) for name in parts[0]}


def _common_length(arrays: Sequence[NDArray]) -> int:
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "arrays must be of one length, at least one image long. "
            f"Received: lengths={[len(array) for array in arrays]}"
        )
    return lengths.pop()


def _counts(images: int, resamples: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Yield how often each image was drawn, shape (some resamples, images)."""
    at_once = max(1, VALUES_AT_ONCE // images)
    for first in range(0, resamples, at_once):
        rows = min(at_once, resamples - first)
        drawn = generator.integers(images, size=(rows, images))
        drawn += np.arange(rows)[:, None] * images  # one count for all rows together
        counted = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counted.reshape(rows, images).astype(np.float64)


def _interval(values: FloatArray) -> Interval:
    defined = values[np.isfinite(values)]
    if not defined.size:
        return None
    return [float(edge) for edge in np.percentile(defined, [2.5, 97.5])]
