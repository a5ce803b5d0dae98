"""The axes of an image: which of them counts the bands, and what an array without one looks like.

Arrays of stacked images are refused here, because a stack of 50 images has the same axes as an
image of 50 bands.
"""

import numpy as np

from deeplens_tf.config import MAX_UNNAMED_BANDS
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.preprocessing import MIN_IMAGE_SIDE

MAX_IMAGE_SIDE = 16384
MAX_SIDE_RATIO = 4  # beyond it an array is rather a table with the pixels of one image a row


def bands_last(array: np.ndarray, bands: int | None = None) -> np.ndarray:
    """Return an array of two or three axes as (height, width, bands), floating point.

    Args:
        array: real numbers.
        bands: number of bands that was asked for, see `band_axis`.

    Raises:
        UnusableFile: another number of axes, no band axis, or sides that no image has.
    """
    if array.ndim not in (2, 3):
        raise UnusableFile(dimensions_text(array.shape))
    if array.ndim == 2 and not _are_named(bands):
        array = array[..., np.newaxis]
    else:
        array = np.moveaxis(array, band_axis(array.shape, bands), -1)
    check_sides(*array.shape[:2])
    return array.astype(_float_type(array.dtype), copy=False)


def band_axis(shape: tuple[int, ...], bands: int | None = None) -> int:
    """Return which of three axes counts the bands.

    It is the one axis that is smaller than both others and has a length of at most 10; where
    `bands` is more than 10, it is the one of that length.

    Raises:
        UnusableFile: there is no such axis, as in a stack of images.
    """
    length = bands if bands is not None and _are_named(bands) else min(shape)
    if shape.count(length) == 1 and (length == bands or length <= MAX_UNNAMED_BANDS):
        return shape.index(length)
    if _are_named(bands):
        raise UnusableFile(f"shape {shape}: not one axis of the {bands} bands asked for")
    raise UnusableFile(stack_text(shape))


def stack_text(shape: tuple[int, ...]) -> str:
    """Return the reason for refusing an array of three axes, none of which counts bands."""
    # Of two equal sides and another length, the latter is the number of images.
    odd = [side for side in shape if shape.count(side) == 1]
    count = odd[0] if len(odd) == 1 else shape[0]
    sides = list(shape)
    sides.remove(count)
    if min(sides) < MIN_IMAGE_SIDE:
        return f"shape {shape}: the band axis is ambiguous, it must be the smallest"
    hint = f", or set data.bands={count} if these are bands" if shape.count(count) == 1 else ""
    return (
        f"looks like a stack of {count} images of {sides[0]} x {sides[1]} pixels: save each image "
        f"in a file of its own, or all in a .npy file with data.stacks=true{hint}"
    )


def dimensions_text(shape: tuple[int, ...]) -> str:
    """Return the reason for refusing an array that has not two or three axes."""
    reason = f"{len(shape)}-D, an image has 2 or 3 dimensions"
    if len(shape) == 1:
        return f"{reason}; if these are flattened pixels, save them as (height, width)"
    if len(shape) != 4:
        return reason
    if shape[0] == 1:
        return f"{reason}; remove the axis of length 1 with numpy.squeeze"
    sides = list(shape[1:])
    bands = min(sides)
    sides.remove(bands)
    return (
        f"{reason}; it looks like a stack of {shape[0]} images of {sides[0]} x {sides[1]} pixels "
        f"and {bands} bands: save each image in a file of its own, or all in a .npy file with "
        "data.stacks=true"
    )


def _are_named(bands: int | None) -> bool:
    return bands is not None and bands > MAX_UNNAMED_BANDS


def check_sides(height: int, width: int) -> None:
    """Refuse sides in pixels that no image has.

    Raises:
        UnusableFile: a side out of bounds, or one more than four times as long as the other.
    """
    size = f"{height} x {width} pixels"
    if min(height, width) < MIN_IMAGE_SIDE:
        raise UnusableFile(f"{size}, at least {MIN_IMAGE_SIDE} per side are needed")
    if max(height, width) > MAX_IMAGE_SIDE:
        raise UnusableFile(f"{size}, at most {MAX_IMAGE_SIDE} per side are read")
    if max(height, width) > MAX_SIDE_RATIO * min(height, width):
        raise UnusableFile(
            f"{size}, one side is more than {MAX_SIDE_RATIO} times the other: if this is a table "
            "with the pixels of one image a row, save each image in a file of its own"
        )


def _float_type(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
