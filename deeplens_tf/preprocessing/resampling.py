"""Resampling of an image to another pixel scale, and scaling of its values to [0, 1]."""

import math

import numpy as np

from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.pixel_checks import checked_interval
from deeplens_tf.preprocessing.scaling import (
    by_bands,
    crop_margin,
    reflected_indices,
    rescaled,
    resize_bands,
    scale_with_margin,
    to_unit,
)
from deeplens_tf.preprocessing.value_scale import MIN_MAX, ValueScale

_ROUNDING = 1e-6  # relative error of a pixel scale that changes no pixel


def resample_with_margin(
    image: np.ndarray,
    image_size: int,
    fit: str,
    pixel_scale_arcsec: float,
    resample_to_arcsec: float,
    scale: ValueScale = MIN_MAX,
) -> np.ndarray:
    """Return the central part of an image at another pixel scale, with the margin that views need.

    The part is a square of `image_size * resample_to_arcsec`, exactly: its border may lie within a
    pixel of the source. It is resized with a triangle filter, widened by the reduction factor. The
    margin is as in `scaling.scale_with_margin`.

    Args:
        image: (height, width, bands), as `read_image` returns it.
        image_size: side of the central part in pixels.
        fit: "crop" for a margin, "resize" for none.
        pixel_scale_arcsec: of the image.
        resample_to_arcsec: pixel scale of the result.
        scale: of the values.

    Returns:
        (S, S, bands), float32 in [0, 1], with S = image_size + 2 * crop_margin(image_size, fit).

    Raises:
        UnusableFile: the image does not cover the central part, or its pixels there cannot be
            scaled, see `pixel_checks.checked_interval`.
    """
    ratio = resample_to_arcsec / pixel_scale_arcsec  # pixels of the source in one of the result
    kept_square(image, image_size, pixel_scale_arcsec, resample_to_arcsec)  # or it is refused
    if abs(ratio - 1) < _ROUNDING:
        return _without_resampling(image, image_size, fit, scale)
    return by_bands(lambda part, own: _resampled(part, image_size, fit, ratio, own), image, scale)


def _resampled(
    image: np.ndarray, image_size: int, fit: str, ratio: float, scale: ValueScale
) -> np.ndarray:
    kept, margin = _square(image, image_size * ratio)[0], crop_margin(image_size, fit)
    low, high = checked_interval(kept, scale, cropped=kept.shape != image.shape)
    square, box = _square(image, (image_size + 2 * margin) * ratio)
    if not np.isfinite(square).all():  # only in the margin
        square, box, margin = *_square(image, image_size * ratio), 0
    unit = to_unit(square.astype(np.float64).clip(low, high), low, high)
    wide = rescaled(resize_bands(unit, image_size + 2 * margin, box), margin, scale)
    wide = scale.stretched(wide).astype(np.float32)
    missing = crop_margin(image_size, fit) - margin
    return np.pad(wide, ((missing, missing), (missing, missing), (0, 0)), "symmetric")


def kept_square(
    image: np.ndarray, image_size: int, pixel_scale_arcsec: float, resample_to_arcsec: float
) -> np.ndarray:
    """Return the whole pixels of which the central part is made, (side, side, bands).

    Raises:
        UnusableFile: the image does not cover the central part.
    """
    side = image_size * (resample_to_arcsec / pixel_scale_arcsec)
    shorter = min(image.shape[:2])
    if side > shorter * (1 + _ROUNDING):
        raise UnusableFile(
            f"covers {shorter * pixel_scale_arcsec:.4g} of {side * pixel_scale_arcsec:.4g} arcsec"
        )
    return _square(image, side)[0]


def _without_resampling(
    image: np.ndarray, image_size: int, fit: str, scale: ValueScale
) -> np.ndarray:
    wide = scale_with_margin(image, image_size, "crop", scale)
    spare = crop_margin(image_size, "crop") - crop_margin(image_size, fit)
    return np.ascontiguousarray(wide[spare : len(wide) - spare, spare : len(wide) - spare])


def _square(image: np.ndarray, side: float) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Return the whole pixels that a central square touches, and the square within them.

    What lies beyond the image is its reflection.
    """
    lengths = image.shape[:2]
    spans = [_span(length, side) for length in lengths]
    pixels = [
        reflected_indices(length, first, count)
        for length, (first, count, *_) in zip(lengths, spans, strict=True)
    ]
    (_, _, top, bottom), (_, _, left, right) = spans
    return image[np.ix_(*pixels)], (left, top, right, bottom)


def _span(length: int, side: float) -> tuple[int, int, float, float]:
    """Return the first of the pixels of an axis that a central interval touches, and their number.

    And its start and its end, counted from the first of these pixels.
    """
    start, end = (length - side) / 2, (length + side) / 2
    first, last = math.floor(start + _ROUNDING), math.ceil(end - _ROUNDING)
    count = last - first
    return first, count, max(start - first, 0.0), min(end - first, float(count))
