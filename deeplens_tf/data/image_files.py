"""The only module that opens users' image files.

Every file is untrusted. Its size is checked before memory is allocated, and every fault becomes an
`UnusableFile` with the reason that is written to `rejected.csv`.
"""

import stat
from pathlib import Path

import numpy as np

from deeplens_tf.data.npy import byte_text, read_npy
from deeplens_tf.data.npz import read_npz
from deeplens_tf.errors import UnusableFile

MAX_IMAGE_FILE_BYTES = 10**9
MIN_IMAGE_SIDE = 8
MAX_IMAGE_SIDE = 16384


def read_image(path: str | Path) -> tuple[np.ndarray, float | None]:
    """Read one image file, `.npy` or `.npz`.

    Args:
        path: a regular file or a link to one.

    Returns:
        The image, floating point, (height, width, bands), and the axion mass in eV that the file
        contains, or None. The mass is returned unchecked.

    Raises:
        UnusableFile: with the reason, for anything but one finite, varying, real-valued image.
    """
    path = Path(path)
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

    The band axis is the one axis that is smaller than both others.

    Raises:
        UnusableFile: another number of axes, no single smallest axis, or a side out of bounds.
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
    """Refuse an image that cannot be scaled to [0, 1].

    Raises:
        UnusableFile: a value is not finite, or all values are equal.
    """
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere makes both NaN
        count = int(np.count_nonzero(~np.isfinite(image)))
        raise UnusableFile(f"{count} value{'s are' if count > 1 else ' is'} not finite")
    if low == high:
        raise UnusableFile(f"constant, every value is {low:g}")


def _file_size(path: Path) -> int:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnusableFile("a broken link" if path.is_symlink() else "no such file") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
        raise UnusableFile("not a regular file")
    if status.st_size > MAX_IMAGE_FILE_BYTES:
        limit = byte_text(MAX_IMAGE_FILE_BYTES)
        raise UnusableFile(f"a file of {byte_text(status.st_size)}, at most {limit} are read")
    if not status.st_size:
        raise UnusableFile("empty file")
    return status.st_size


def _band_axis(shape: tuple[int, ...]) -> int:
    smallest = min(shape)
    if shape.count(smallest) > 1:
        raise UnusableFile(f"shape {shape}: the band axis is ambiguous, it must be the smallest")
    return shape.index(smallest)


def _check_sides(height: int, width: int) -> None:
    size = f"{height} x {width} pixels"
    if min(height, width) < MIN_IMAGE_SIDE:
        raise UnusableFile(f"{size}, at least {MIN_IMAGE_SIDE} per side are needed")
    if max(height, width) > MAX_IMAGE_SIDE:
        raise UnusableFile(f"{size}, at most {MAX_IMAGE_SIDE} per side are read")


def _float_type(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
