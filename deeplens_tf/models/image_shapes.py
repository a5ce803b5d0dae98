"""The image shape that a caller gives an encoder."""

from numbers import Integral
from typing import Any


def checked_image_shape(image_shape: Any) -> tuple[int, int, int]:
    """Return an image shape as a tuple of Python's numbers.

    Args:
        image_shape: (height, width, bands), all known; a tuple or a list.

    Raises:
        ValueError: another number of sides, or a side that is not a positive whole number.
    """
    known = isinstance(image_shape, tuple | list) and len(image_shape) == 3
    if not known or not all(_is_length(side) for side in image_shape):
        raise ValueError(
            "image_shape must be (height, width, bands), three positive whole numbers. "
            f"Received: image_shape={image_shape!r}"
        )
    height, width, bands = (int(side) for side in image_shape)
    return height, width, bands


def _is_length(side: Any) -> bool:
    return isinstance(side, Integral) and not isinstance(side, bool) and int(side) > 0
