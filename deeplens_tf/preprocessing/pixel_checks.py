"""Whether the pixels that are kept of an image can be scaled to [0, 1], and by which interval."""

from typing import Any

import numpy as np

from deeplens_tf.errors import NoSignal, RequestError, UnusableFile
from deeplens_tf.preprocessing.value_scale import ValueScale

MIN_RANGE = 1e-6  # of a range of 1: below it the values are float32 rounding errors
MIN_RANGE_OF_THE_REST = 1e-4  # of the full range: below it min-max scaling leaves nothing to see
MAX_OUTLIER_FRACTION = 0.01
MIN_OUTLIER_COUNT = 8  # up to so many values are a handful in the smallest images too


def checked_interval(
    pixels: np.ndarray, scale: ValueScale, cropped: bool = False
) -> tuple[float, float]:
    """Return the ends of an interval of pixels, which leaves something to see of them.

    Args:
        pixels: (height, width, bands), real numbers; only the pixels that are kept.
        scale: which interval.
        cropped: whether they are a part of a larger image, for the message.

    Raises:
        RequestError: a scale over the data that has no limits yet.
        NoSignal: all values, or both ends of the interval, are equal; or what the limits of a scale
            over the data leave of them is constant, to 1e-6 of the interval.
        UnusableFile: a value or an end is not finite, or `check_pixels` refuses what is left of
            the values between the ends: a star outside of a percentile or zscale interval is no
            reason, and a border of fill values that decides the interval is one.
    """
    if scale.scale_over == "data":
        return _limits_of(pixels, scale, cropped)
    if scale.interval == "minmax":
        return check_pixels(pixels, cropped)
    _finite_extremes(pixels, cropped)
    low, high = scale.ends(pixels)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnusableFile(f"its {scale.interval} interval is not finite: values are too large")
    if low >= high:
        raise NoSignal(f"constant within its {scale.interval} interval, {low:g} to {high:g}")
    return check_pixels(pixels.astype(np.float64).clip(low, high), cropped)


def require_usable(pixels: np.ndarray, scale: ValueScale, cropped: bool = False) -> None:
    """Refuse pixels that no interval of other images makes useful.

    Raises:
        NoSignal: all values are equal.
        UnusableFile: a value is not finite; or, with min-max scaling, see `check_pixels`.
    """
    (check_pixels if scale.interval == "minmax" else _finite_extremes)(pixels, cropped)


def _limits_of(pixels: np.ndarray, scale: ValueScale, cropped: bool) -> tuple[float, float]:
    """Return the limits of a scale over the data, if they leave something to see of some pixels."""
    if scale.limits is None:
        raise RequestError(
            "scale must have limits where scale_over is data, such as preprocessing.scaling of the "
            f"data or of an encoder. Received: {scale}"
        )
    require_usable(pixels, scale, cropped)
    [(low, high)] = scale.limits
    seen = np.clip(np.array([pixels.min(), pixels.max()], np.float64), low, high) / 4
    if seen[1] - seen[0] <= MIN_RANGE * (high / 4 - low / 4):
        raise NoSignal(f"constant within the interval of the data, {low:g} to {high:g}")
    return low, high


def check_pixels(image: np.ndarray, cropped: bool = False) -> tuple[float, float]:
    """Refuse pixels that scaling by their minimum and maximum would make useless.

    Args:
        image: (height, width, bands), real numbers; only the pixels that are kept.
        cropped: whether they are a part of a larger image, for the message.

    Returns:
        Their minimum and their maximum.

    Raises:
        NoSignal: all values are equal.
        UnusableFile: a value is not finite; or all values but a handful, at most 1 % or 8, span
            less than 1e-4 of the full range, as beside a fill value of -9999; or all but those
            that are equal to the lowest or the highest value do, as beside a row of fill values.
    """
    low, high = _finite_extremes(image, cropped)
    values, quarter_range = image.ravel(), float(_quarter(high) - _quarter(low))
    _check_outliers(values, quarter_range)
    _check_repeated(values, low, high, quarter_range)
    return float(low), float(high)


def _finite_extremes(image: np.ndarray, cropped: bool) -> tuple[Any, Any]:
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere makes both NaN
        count = int(np.count_nonzero(~np.isfinite(image)))
        raise UnusableFile(f"{count} value{'s are' if count > 1 else ' is'} not finite")
    if low == high:
        raise NoSignal(f"constant{' after cropping' * cropped}, every value is {low:g}")
    return low, high


def _check_outliers(values: np.ndarray, quarter_range: float) -> None:
    handful = max(MIN_OUTLIER_COUNT, int(MAX_OUTLIER_FRACTION * values.size))
    limit = MIN_RANGE_OF_THE_REST * quarter_range
    # What all but a handful of a few values span, all but a handful of all values span too.
    for some in (values[:: max(values.size // (4 * handful), 1)], values):
        low, high = _narrowest_body(some, handful)
        if high - low >= limit:
            return
    raise _far_from(values, low, high, quarter_range)


def _check_repeated(
    values: np.ndarray, low: np.number, high: np.number, quarter_range: float
) -> None:
    """Refuse an extreme value that many pixels have, far from all others: a row, a border."""
    if max(np.count_nonzero(values == low), np.count_nonzero(values == high)) <= MIN_OUTLIER_COUNT:
        return
    body = _quarter(values[(values != low) & (values != high)])
    # An image of two or three values, such as a mask, has no others that vary.
    if body.size and 0 < np.ptp(body) < MIN_RANGE_OF_THE_REST * quarter_range:
        raise _far_from(values, float(body.min()), float(body.max()), quarter_range)


def _far_from(values: np.ndarray, low: float, high: float, full: float) -> UnusableFile:
    """Return the reason for refusing values of which most are between four times two ends.

    Args:
        values: all of them.
        low: a quarter of the lower end.
        high: a quarter of the upper end.
        full: a quarter of the range of all values.
    """
    limit = MIN_RANGE_OF_THE_REST * full
    # Four times a value may be infinite here, which is as good a bound.
    with np.errstate(over="ignore"):
        far = (values < 4 * np.float64(low - limit)) | (values > 4 * np.float64(high + limit))
    count, span = np.count_nonzero(far), (high - low) / full
    return UnusableFile(
        f"{count} of {values.size} values {'are' if count > 1 else 'is'} far from the others, "
        f"which span {span:.0e} of the range: a fill value or a saturated pixel?"
    )


def _narrowest_body(values: np.ndarray, handful: int) -> tuple[float, float]:
    """Return the ends, a quarter of them, of the narrowest interval that holds all but a handful.

    A handful may lie below it, above it or on both sides.
    """
    values = np.sort(values)
    lows = _quarter(values[: handful + 1])  # of which i are left out below
    highs = _quarter(values[-1 - handful :])  # and the other handful - i above
    best = int(np.argmin(highs - lows))
    return float(lows[best]), float(highs[best])


def _quarter(values: np.ndarray) -> np.ndarray:
    """Return a quarter of values in float64, whose differences cannot overflow."""
    return np.asarray(values, np.float64) / 4
