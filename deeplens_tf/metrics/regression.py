"""The metrics of predictions of a log10 quantity that `metrics.json` holds."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.metrics.bootstrap import bootstrap_intervals
from deeplens_tf.metrics.classification import Metrics
from deeplens_tf.metrics.intervals import (
    Interval,
    plain_interval,
    positive_mean_interval,
    wilson_interval,
)
from deeplens_tf.metrics.weighted import FloatArray, plain_numbers, unit_weights, weighted_r2

MIN_IMAGES_FOR_R2 = 3
"""For the interval of R²: it has one value for all resamples of two images."""

REGRESSOR_INTERVAL_METHODS = {
    "mae_dex, rmse_dex": "Student's t of the logarithm",
    "r2": "percentile bootstrap",
    "coverage_68, coverage_95": "Wilson score",
}


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
        `std_dex` also `coverage_68` and `coverage_95`: the fraction of truths inside the central
        68 % and 95 % of the predicted Gaussians, less where the deviations are too small.

    Raises:
        ValueError: unequal shapes, no values, values that are not finite, negative `std_dex`.
    """
    arrays = checked_values(true_log10, predicted_log10, std_dex)
    true, predicted = arrays[:2]
    (r2,) = plain_numbers(weighted_r2(true, predicted, unit_weights(len(true)))["r2"])
    return {
        "mae_dex": float(np.abs(predicted - true).mean()),
        "rmse_dex": float(np.sqrt(np.mean((predicted - true) ** 2))),
        "r2": r2,
        **{name: float(inside.mean()) for name, inside in _covered(*arrays).items()},
        "n_test": len(true),
    }


def regression_intervals(
    true_log10: ArrayLike,
    predicted_log10: ArrayLike,
    std_dex: ArrayLike | None = None,
    *,
    seed: int,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """95 % intervals of every metric of `regression_metrics`.

    `REGRESSOR_INTERVAL_METHODS` says how each is made.

    Args:
        true_log10: shape (n,), log10 of the true value (a mass in eV).
        predicted_log10: shape (n,).
        std_dex: shape (n,), predicted Gaussian standard deviations, if the model has them.
        seed: of the bootstrap of R²; the others involve no random numbers.
        resamples: of this bootstrap.

    Returns:
        Name -> `[low, high]` or None: errors of one image have none, and R² of fewer than
        `MIN_IMAGES_FOR_R2`.

    Raises:
        ValueError: as `regression_metrics`.
    """
    arrays = checked_values(true_log10, predicted_log10, std_dex)
    true, predicted = arrays[:2]
    of_r2 = bootstrap_intervals(weighted_r2, (true, predicted), seed, resamples)["r2"]
    return {
        "mae_dex": plain_interval(positive_mean_interval(np.abs(predicted - true))),
        "rmse_dex": plain_interval(np.sqrt(positive_mean_interval((predicted - true) ** 2))),
        "r2": of_r2 if len(true) >= MIN_IMAGES_FOR_R2 else None,
        **{
            name: plain_interval(wilson_interval(inside.sum(), len(true)))
            for name, inside in _covered(*arrays).items()
        },
    }


def _covered(
    true: FloatArray, predicted: FloatArray, std: FloatArray | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Return which truths the central 68 % and 95 % of the Gaussians contain, if there are any."""
    if std is None:
        return {}
    deviations = {p: NormalDist().inv_cdf(0.5 + p / 200) for p in (68, 95)}
    return {
        f"coverage_{percent}": np.abs(predicted - true) <= number * std
        for percent, number in deviations.items()
    }


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
