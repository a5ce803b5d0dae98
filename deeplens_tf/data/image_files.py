"""The one place that opens users' image files: from a path to an image of the configured size.

Every file is a stranger's. Its size is looked at before memory is taken, and whatever is wrong with
it becomes an `UnusableFile` whose message is the reason that a person reads in `rejected.csv`.
"""

import stat
from pathlib import Path

import numpy as np
from PIL import Image

from deeplens_tf.data.npy import byte_text, read_npy
from deeplens_tf.data.npz import read_npz
from deeplens_tf.errors import RequestError, UnusableFile

MAX_FILE_BYTES = 10**9
MIN_SIDE = 8
MAX_SIDE = 16384
FIT_MODES = ("resize", "crop")

_FLAT = 1e-6  # of a range of 1: what float32 rounding leaves of an image that averages out


def read_image(path: Path) -> tuple[np.ndarray, float | None]:
    """Read one image file, `.npy` or `.npz`.

    Args:
        path: a regular file or a link to one.

    Returns:
        The image, floating point, (height, width, bands), and the axion mass in eV that the file
        carries, or None. The mass is as the file has it, not checked.

    Raises:
        UnusableFile: with the reason, for anything but one finite, varying, real-valued image.
    """
    try:
        size = _file_size(path)
        if path.suffix.lower() == ".npz":
            array, mass_ev = read_npz(path)
        else:
            with path.open("rb") as stream:
                array, mass_ev = read_npy(stream, size)
    except OSError as error:
        raise UnusableFile(f"cannot be read: {error.strerror or error}") from error
    image = bands_last(array)
    check_values(image)
    return image, mass_ev


def bands_last(array: np.ndarray) -> np.ndarray:
    """Return an array of two or three axes as (height, width, bands), floating point.

    The band axis is the one axis that is smallest.

    Raises:
        UnusableFile: another number of axes, a tie for the smallest, or a side out of bounds.
    """
    if array.ndim not in (2, 3):
        raise UnusableFile(f"{array.ndim}-D, an image has 2 or 3 dimensions")
    if array.ndim == 2:
        array = array[..., np.newaxis]
    else:
        array = np.moveaxis(array, _band_axis(array.shape), -1)
    _check_sides(*array.shape[:2])
    return array.astype(_float_type(array.dtype), copy=False)


def check_values(image: np.ndarray) -> None:
    """Refuse an image that no scaling can bring to [0, 1].

    Raises:
        UnusableFile: values that are not finite, or all the same.
    """
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere makes both NaN
        count = int(np.count_nonzero(~np.isfinite(image)))
        raise UnusableFile(f"{count} value{'s are' if count > 1 else ' is'} not finite")
    if low == high:
        raise UnusableFile(f"constant, every value is {low:g}")


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


def _file_size(path: Path) -> int:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnusableFile("a broken link" if path.is_symlink() else "no such file") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise UnusableFile("not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnusableFile(f"{byte_text(status.st_size)}, at most 1.0 GB are read")
    if not status.st_size:
        raise UnusableFile("empty file")
    return status.st_size


def _band_axis(shape: tuple[int, ...]) -> int:
    smallest = min(shape)
    if shape.count(smallest) > 1:
        raise UnusableFile(f"shape {shape}: which axis holds the bands? None alone is the smallest")
    return shape.index(smallest)


def _check_sides(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UnusableFile(f"{height} x {width} pixels, at least {MIN_SIDE} a side are needed")
    if max(height, width) > MAX_SIDE:
        raise UnusableFile(f"{height} x {width} pixels, at most {MAX_SIDE} a side are read")


def _float_type(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


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
