"""A map for each image: a value for each part of it, and for each pixel."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.models.encoders import image_shape_of
from deeplens_tf.models.image_model import RANGE_TOLERANCE


class ImageMaps(NamedTuple):
    """What a network looks at, for each image.

    Attributes:
        grid: shape (images, rows, columns), float32: a value for each patch.
        pixels: the same for each pixel, shape (images, height, width), float32.
    """

    grid: NDArray[np.float32]
    pixels: NDArray[np.float32]


def joined(maps: Sequence[ImageMaps]) -> ImageMaps:
    """Return the maps of all images; at least one part."""
    return ImageMaps(*(np.concatenate(parts) for parts in zip(*maps, strict=True)))


def prepared_images(network: keras.Model, images: Any) -> NDArray[np.float32]:
    """Return images as float32, if a network takes such.

    Raises:
        ValueError: no images, another shape than the network's, or values outside of [0, 1].
    """
    array, shape = np.asarray(images, np.float32), image_shape_of(network)
    if array.ndim != 4 or array.shape[1:] != shape or not len(array):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"images must have the shape (n, {wanted}). Received: {array.shape}")
    if not (array.min() >= -RANGE_TOLERANCE and array.max() <= 1 + RANGE_TOLERANCE):  # NaN too
        raise ValueError(
            "images must be in [0, 1], as preprocessing.apply of the encoder makes them of raw "
            f"ones. Received: values from {array.min():g} to {array.max():g}"
        )
    return array
