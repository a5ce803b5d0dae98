"""Resizing of an image to the configured size and scaling of its values to [0, 1]."""

import math

import numpy as np
from PIL import Image

from deeplens_tf.errors import RequestError, UnusableFile

FIT_MODES = ("resize", "crop")

_MIN_RESIZED_RANGE = 1e-6  # of a range of 1: below it the values are float32 rounding errors


def resize_and_scale(image: np.ndarray, image_size: int, fit: str) -> np.ndarray:
    """Bring an image to the configured size and its values to [0, 1].

    `resize` cuts the central square of the shorter side and resizes it with a triangle filter,
    which is widened by the reduction factor to prevent aliasing. `crop` cuts the central square
    of `image_size`; a smaller image is resized up. An image of the right size keeps its pixels.
    Min-max scaling is over all bands together.

    Args:
        image: (height, width, bands), as `read_image` returns it.
        image_size: side of the result in pixels.
        fit: "resize" or "crop".

    Returns:
        (image_size, image_size, bands), float32, minimum 0 and maximum 1.

    Raises:
        RequestError: an unknown `fit`, or an array of another number of axes.
        UnusableFile: the image is constant after cropping or resizing.
    """
    if fit not in FIT_MODES:
        raise RequestError(f"fit must be 'resize' or 'crop'. Received: fit={fit!r}")
    if image.ndim != 3:
        raise RequestError(
            f"image must have the axes (height, width, bands). Received: shape {image.shape}"
        )
    side = min(image.shape[:2])
    if fit == "crop":
        side = min(side, image_size)
    scaled = _min_max(_central_square(image, side))
    if scaled.shape[0] != image_size:
        scaled = scaled.astype(np.float32)  # frees the float64 copy, which may be large
        scaled = _min_max(_resize(scaled, image_size), min_range=_MIN_RESIZED_RANGE)
    return np.ascontiguousarray(scaled, np.float32)


def crop_margin(image_size: int, fit: str) -> int:
    """Return the width in pixels of the margin that views need around an image.

    A square that turns about its centre stays within one whose side is larger by sqrt(2). An image
    that is resized has no margin: it reaches to the border of the source image already.

    Args:
        image_size: side of the image in pixels, without the margin.
        fit: "resize" or "crop".
    """
    return math.ceil(image_size * (math.sqrt(2) - 1) / 2) if fit == "crop" else 0


def scale_with_margin(image: np.ndarray, image_size: int, fit: str) -> np.ndarray:
    """Return what `resize_and_scale` returns, with the margin that views need around it.

    The margin has the scale of the image and is clipped to [0, 1], so that a bright star outside
    of the crop does not exceed the range. What lies beyond the source image is its reflection,
    which repeats the outermost pixel. A source image that is resized has no other margin.

    Args:
        image: (height, width, bands), as `read_image` returns it.
        image_size: side of the central part in pixels.
        fit: "resize" or "crop".

    Returns:
        (S, S, bands), float32 in [0, 1], with S = image_size + 2 * crop_margin(image_size, fit);
        the central part is that of `resize_and_scale`, bit for bit.

    Raises:
        RequestError: an unknown `fit`, or an array of another number of axes.
        UnusableFile: the image is constant after cropping or resizing.
    """
    central, margin = resize_and_scale(image, image_size, fit), crop_margin(image_size, fit)
    if not margin:
        return central
    if min(image.shape[:2]) < image_size:  # resized up, so that nothing is left around it
        return np.pad(central, ((margin, margin), (margin, margin), (0, 0)), "symmetric")
    crop = _central_square(image, image_size).astype(np.float64)
    low, high = crop.min(), crop.max()
    rows, columns = (_reflected(length, image_size, margin) for length in image.shape[:2])
    wide = image[np.ix_(rows, columns)].astype(np.float64).clip(low, high)
    return _to_unit(wide, low, high).astype(np.float32)


def _central_square(image: np.ndarray, side: int) -> np.ndarray:
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _reflected(length: int, side: int, margin: int) -> np.ndarray:
    """Return the central indices of an axis, and those of a margin; beyond its ends, reflected."""
    first = (length - side) // 2 - margin
    indices = np.arange(first, first + side + 2 * margin) % (2 * length)
    return np.minimum(indices, 2 * length - 1 - indices)


def _min_max(image: np.ndarray, min_range: float = 0.0) -> np.ndarray:
    image = image.astype(np.float64)  # one copy, changed in place: an image may be large
    return _to_unit(image, image.min(), image.max(), min_range)


def _to_unit(image: np.ndarray, low: float, high: float, min_range: float = 0.0) -> np.ndarray:
    """Scale float64 values in place, from `low` to 0 and from `high` to 1."""
    if max(-low, high) > 1e300:  # the difference could overflow
        image /= 4
        low, high = low / 4, high / 4
    if high - low <= min_range:
        raise UnusableFile("constant after cropping or resizing")
    image -= low
    image /= high - low
    return image


def _resize(image: np.ndarray, image_size: int) -> np.ndarray:
    bands = np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)  # (bands, side, side)
    target = (image_size, image_size)
    triangle = Image.Resampling.BILINEAR
    resized = [Image.fromarray(band).resize(target, triangle) for band in bands]
    return np.stack([np.asarray(band) for band in resized], axis=-1)
