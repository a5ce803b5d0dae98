"""An image brought to the configured size and to values from 0 to 1."""

import numpy as np
from PIL import Image

from deeplens_tf.errors import RequestError, UnusableFile

FIT_MODES = ("resize", "crop")


_FLAT = 1e-6  # of a range of 1: what float32 rounding leaves of an image that averages out


def resize_and_scale(image: np.ndarray, image_size: int, fit: str) -> np.ndarray:
    """Bring an image to the configured size and to values from 0 to 1.

    `resize` cuts the centred square of the shorter side and resizes it with a triangle filter as
    wide as the reduction (no aliasing). `crop` cuts the centred square of `image_size`; an image
    too small for that is resized up. An image of the right size keeps its pixels. Min-max
    scaling is over all bands together.

    Args:
        image: (height, width, bands), as `read_image` returns it.
        image_size: side of the result in pixels.
        fit: "resize" or "crop".

    Returns:
        (image_size, image_size, bands), float32, minimum 0 and maximum 1.

    Raises:
        RequestError: an unknown `fit`.
        UnusableFile: the part that is left is constant.
    """
    if fit not in FIT_MODES:
        raise RequestError(f"fit is 'resize' or 'crop'. Received: fit={fit!r}")
    side = min(image.shape[:2])
    if fit == "crop":
        side = min(side, image_size)
    scaled = _min_max(_centred_square(image, side))
    if scaled.shape[0] != image_size:
        scaled = scaled.astype(np.float32)  # what is resized; a large image is not kept twice
        scaled = _min_max(_resize(scaled, image_size), flat=_FLAT)
    return np.ascontiguousarray(scaled, np.float32)


def _centred_square(image: np.ndarray, side: int) -> np.ndarray:
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _min_max(image: np.ndarray, flat: float = 0.0) -> np.ndarray:
    image = image.astype(np.float64)  # a copy, changed in place: an image may be large
    low, high = image.min(), image.max()
    if max(-low, high) > 1e300:  # the difference could overflow
        image /= 4
        low, high = low / 4, high / 4
    if high - low <= flat:
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
