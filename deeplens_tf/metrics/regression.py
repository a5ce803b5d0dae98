"""The metrics of predictions of a log10 quantity that `metrics.json` holds."""

import numpy as np
from numpy.typing import ArrayLike

from deeplens_tf.metrics.bootstrap import Interval, bootstrap_intervals
from deeplens_tf.metrics.classification import Metrics
from deeplens_tf.metrics.weighted import (
    FloatArray,
    coverage_scores,
    first_row,
    regression_scores,
    unit_weights,
)


def regression_metrics(
    true_log10: ArrayLike, predicted_log10: ArrayLike, std_dex: ArrayLike | None = None
) -> Metrics:
    """Score predictions of a log10 quantity.

    Args:
        true_log10: shape (n,), log10 of the true value (a mass in eV).
        predicted_log10: shape (n,).
        std_dex: shape (n,), predicted Gaussian standard deviations, if the model has them.

    Returns:
        `mae_dex`, `rmse_dex`, `r2` (None if the truths do not vary), `n_test`, and with
        `std_dex` also `coverage_68` and `coverage_95`.

    Raises:
        ValueError: unequal shapes, no values, values that are not finite, negative `std_dex`.
    """
    arrays = checked_values(true_log10, predicted_log10, std_dex)
    scores = first_row(_value_scores(*arrays, unit_weights(len(arrays[0]))))
    return {**scores, "n_test": len(arrays[0])}


def regression_intervals(
    true_log10: ArrayLike,
    predicted_log10: ArrayLike,
    std_dex: ArrayLike | None = None,
    *,
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """95 % bootstrap intervals of every metric of `regression_metrics`.

    Args:
        true_log10: shape (n,), log10 of the true value (a mass in eV).
        predicted_log10: shape (n,).
        std_dex: shape (n,), predicted Gaussian standard deviations, if the model has them.
        seed: of the draws.
        resamples: number of resamples.

    Returns:
        Name -> `[low, high]` or None.

    Raises:
        ValueError: as `regression_metrics`.
    """
    arrays = checked_values(true_log10, predicted_log10, std_dex)
    return bootstrap_intervals(_value_scores, arrays, seed, resamples)


def _value_scores(*arrays: FloatArray) -> dict[str, FloatArray]:
    """Take (true, predicted[, std], weights): the deviations only if there are any."""
    true, predicted, *std, weights = arrays
    scores = regression_scores(true, predicted, weights)
    return scores | coverage_scores(true, predicted, std[0], weights) if std else scores


def checked_values(*arrays: ArrayLike | None) -> tuple[FloatArray, ...]:
    """Return (true, predicted[, std]) as float64 if they match.

    Raises:
        ValueError: shapes that differ or are not (n,), values not finite, a negative std.
    """
    values = tuple(np.asarray(array, np.float64) for array in arrays if array is not None)
    shapes = [value.shape for value in values]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(
            "true_log10, predicted_log10 and std_dex must have one shape (n,) with n >= 1. "
            f"Received: shapes={shapes}"
        )
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError(
            "true_log10, predicted_log10 and std_dex must be finite. Received: "
            f"{[int((~np.isfinite(value)).sum()) for value in values]} values that are not"
        )
    if len(values) == 3 and values[2].min() < 0:
        raise ValueError(f"std_dex must not be negative. Received: minimum={values[2].min()}")
    return values
