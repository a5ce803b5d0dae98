"""Resizing of an image to the configured size and scaling of its values to [0, 1]."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from deeplens_tf.errors import NoSignal, RequestError, UnusableFile
from deeplens_tf.preprocessing.pixel_checks import MIN_RANGE, checked_interval
from deeplens_tf.preprocessing.value_scale import MIN_MAX, ValueScale
from deeplens_tf.terminal import counted

FIT_MODES = ("resize", "crop")


def resize_and_scale(
    image: np.ndarray, image_size: int, fit: str, scale: ValueScale = MIN_MAX
) -> np.ndarray:
    """Bring an image to the configured size and its values to [0, 1].

    `resize` cuts the central square of the shorter side and resizes it with a triangle filter,
    which is widened by the reduction factor to prevent aliasing. `crop` cuts the central square
    of `image_size`; a smaller image is resized up. An image of the right size keeps its pixels.
    The interval of `scale` is that of the kept pixels before they are resized, or the `limits` of a
    scale over the data; the pixels are clipped to it. Extremes, interval "minmax", of the image
    itself are brought to 0 and 1 again after resizing; the ends of other intervals keep their
    meaning. The stretch comes last.

    Args:
        image: (height, width, bands), as `read_image` returns it.
        image_size: side of the result in pixels.
        fit: "resize" or "crop".
        scale: of the values; the default is min-max scaling over all bands together. One over the
            data must have limits, such as `data.preprocessing.scaling`.

    Returns:
        (image_size, image_size, bands), float32 in [0, 1], with interval "minmax" of minimum 0
        and maximum 1.

    Raises:
        RequestError: an unknown `fit`, an array of another number of axes, or a scale over the data
            without limits.
        NoSignal: the kept pixels, or their interval, are constant, before or after resizing; or
            constant within the interval of the data.
        UnusableFile: a kept pixel is not finite, or a few are far from all others; see
            `pixel_checks.checked_interval`.
    """
    image, _ = scale.without_nan(image, kept_pixels(image, image_size, fit))
    return by_bands(lambda part, own: _resized_part(part, image_size, fit, own), image, scale)


def _resized_part(image: np.ndarray, image_size: int, fit: str, scale: ValueScale) -> np.ndarray:
    kept = kept_pixels(image, image_size, fit)
    ends = checked_interval(kept, scale, cropped=kept.shape != image.shape)
    return _resized(kept, image_size, *ends, scale)


def by_bands(
    scaled: Callable[[np.ndarray, ValueScale], np.ndarray], image: np.ndarray, scale: ValueScale
) -> np.ndarray:
    """Scale the bands of (height, width, bands) together, or each by itself with its own scale.

    Raises:
        UnusableFile: other bands than those of which the limits were learnt.
    """
    bands = image.shape[-1] if image.ndim == 3 else 1
    if scale.limits is not None and scale.scale_bands == "each" and len(scale.limits) != bands:
        raise UnusableFile(
            f"it has {counted(bands, 'band')}, and the data's interval is of {len(scale.limits)}"
        )
    if bands == 1 or scale.scale_bands == "together":
        return scaled(image, scale)
    finite = np.isfinite(image).all(axis=-1, keepdims=True)
    if not finite.all():  # so that every band has the same margin
        image = np.where(finite, image, np.nan)
    parts = (scaled(image[..., [band]], scale.of_band(band)) for band in range(bands))
    return np.concatenate([*parts], axis=-1)


def _resized(
    kept: np.ndarray, image_size: int, low: float, high: float, scale: ValueScale
) -> np.ndarray:
    """Scale a square, whose interval is given, to [0, 1], resize and stretch it."""
    scaled = kept.astype(np.float64)  # one copy, since an image may be large
    if not scale.has_own_extremes:
        np.clip(scaled, low, high, out=scaled)
    scaled = to_unit(scaled, low, high)
    if scaled.shape[0] != image_size:
        scaled = scaled.astype(np.float32)  # frees the float64 copy, which may be large
        scaled = rescaled(resize_bands(scaled, image_size), 0, scale)
    return np.ascontiguousarray(scale.stretched(scaled), np.float32)


def rescaled(resized: np.ndarray, margin: int, scale: ValueScale) -> np.ndarray:
    """Return resized values in [0, 1]; extremes, which the filter has reduced, at its ends again.

    Args:
        resized: (side, side, bands) with a margin, of values in [0, 1].
        margin: width in pixels of the margin, whose values do not count.
        scale: of the values, not stretched yet.

    Returns:
        The same shape, float64.

    Raises:
        NoSignal: the central part is constant.
    """
    end = len(resized) - margin
    central = resized[margin:end, margin:end]
    low, high = float(central.min()), float(central.max())
    if high - low <= MIN_RANGE:
        raise NoSignal("constant after resizing")
    if not scale.has_own_extremes:
        return resized.astype(np.float64).clip(0.0, 1.0)  # rounding errors of the filter
    return to_unit(resized.astype(np.float64).clip(low, high), low, high)


def kept_pixels(image: np.ndarray, image_size: int, fit: str) -> np.ndarray:
    """Return the central square of which the result is made, a view of (side, side, bands).

    Raises:
        RequestError: an unknown `fit`, or an array of another number of axes.
    """
    if fit not in FIT_MODES:
        raise RequestError(f"fit must be 'resize' or 'crop'. Received: fit={fit!r}")
    if image.ndim != 3:
        raise RequestError(
            f"image must have the axes (height, width, bands). Received: shape {image.shape}"
        )
    side = min(image.shape[:2])
    return _central_square(image, min(side, image_size) if fit == "crop" else side)


def crop_margin(image_size: int, fit: str) -> int:
    """Return the width in pixels of the margin that views need around an image.

    A square that turns about its centre stays within one whose side is larger by sqrt(2). An image
    that is resized has no margin: it reaches to the border of the source image already.

    Args:
        image_size: side of the image in pixels, without the margin.
        fit: "resize" or "crop".
    """
    return math.ceil(image_size * (math.sqrt(2) - 1) / 2) if fit == "crop" else 0


def scale_with_margin(
    image: np.ndarray, image_size: int, fit: str, scale: ValueScale = MIN_MAX
) -> np.ndarray:
    """Return what `resize_and_scale` returns, with the margin that views need around it.

    The margin has the interval of the kept pixels and is clipped to it, so that a bright star
    outside of the crop does not exceed the range. What lies beyond the source image is its
    reflection, which repeats the outermost pixel. A source image that is resized has no other
    margin, and one with pixels in its margin that are not finite gets the reflection of the central
    part.

    Args:
        image: (height, width, bands), as `read_image` returns it.
        image_size: side of the central part in pixels.
        fit: "resize" or "crop".
        scale: of the values.

    Returns:
        (S, S, bands), float32 in [0, 1], with S = image_size + 2 * crop_margin(image_size, fit);
        the central part is that of `resize_and_scale`, bit for bit.

    Raises:
        RequestError, UnusableFile: as `resize_and_scale`.
    """
    return by_bands(lambda part, own: _with_margin(part, image_size, fit, own), image, scale)


def _with_margin(image: np.ndarray, image_size: int, fit: str, scale: ValueScale) -> np.ndarray:
    kept, margin = kept_pixels(image, image_size, fit), crop_margin(image_size, fit)
    low, high = checked_interval(kept, scale, cropped=kept.shape != image.shape)
    if margin and len(kept) == image_size:  # a smaller image is resized up: nothing is around it
        side = image_size + 2 * margin
        rows, columns = (reflected_indices(n, (n - side) // 2, side) for n in image.shape[:2])
        wide = image[np.ix_(rows, columns)].astype(np.float64)
        if np.isfinite(wide).all():
            return scale.stretched(to_unit(wide.clip(low, high), low, high)).astype(np.float32)
    central = _resized(kept, image_size, low, high, scale)
    if not margin:
        return central
    return np.pad(central, ((margin, margin), (margin, margin), (0, 0)), "symmetric")


def _central_square(image: np.ndarray, side: int) -> np.ndarray:
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def reflected_indices(length: int, first: int, count: int) -> np.ndarray:
    """Return `count` indices of an axis from `first`, reflected where they are beyond its ends."""
    indices = np.arange(first, first + count) % (2 * length)
    return np.minimum(indices, 2 * length - 1 - indices)


def to_unit(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale float64 values in place, from `low` to 0 and from `high` to 1."""
    if max(-low, high) > 1e300:  # the difference could overflow
        image /= 4
        low, high = low / 4, high / 4
    image -= low
    image /= high - low
    return image


def resize_bands(
    image: np.ndarray, image_size: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resize (rows, columns, bands), or the part in a box (left, upper, right, lower), to float32.

    The triangle filter is widened by the reduction factor, which prevents aliasing.
    """
    bands = np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)  # (bands, side, side)
    target = (image_size, image_size)
    triangle = Image.Resampling.BILINEAR
    resized = [Image.fromarray(band).resize(target, triangle, box) for band in bands]
    return np.stack([np.asarray(band) for band in resized], axis=-1)


def resize_matrix(length: int, image_size: int) -> np.ndarray:
    """Return what `resize_bands` multiplies each axis by: (image_size, length), float32."""
    unit = Image.fromarray(np.eye(length, dtype=np.float32))
    return np.asarray(unit.resize((length, image_size), Image.Resampling.BILINEAR))
