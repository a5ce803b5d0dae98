"""Images of a `.npy` file that holds many: each is read by itself."""

import math
from pathlib import Path

import numpy as np

from deeplens_tf.data.npy import (
    FIRST_READ_BYTES,
    Layout,
    byte_text,
    check_size,
    make_array,
    read_exactly,
    real_dtype,
    split_header,
)
from deeplens_tf.errors import UnusableFile

MAX_ROWS = 1 << 18  # of a stack; each is an entry in lists of files


def npy_count(path: Path, size: int) -> int | None:
    """Return the number of images in a stack of three or four axes, None for another array.

    Raises:
        UnusableFile: not a `.npy` file of real numbers, or not of the declared size.
    """
    with path.open("rb", buffering=0) as stream:
        layout, offset = split_header(stream.read(FIRST_READ_BYTES))
    if layout.is_object or len(layout.shape) not in (3, 4):
        return None
    _image_layout(layout, size - offset)
    return layout.shape[0]


def refuse_stack(count: int | None) -> None:
    """Refuse a stack of images that is read as one.

    Args:
        count: number of its images, None for a file that is one image.

    Raises:
        UnusableFile: it is a stack.
    """
    if count is not None:
        raise UnusableFile(
            f"a stack of {count} images, which is read only from a file named .h5, .hdf5 or .npy, "
            "and not where each band has a file; a table names an image of it in a column row"
        )


def require_row(row: int, shape: tuple[int, ...]) -> None:
    """Refuse a row that an array does not have.

    Raises:
        UnusableFile: the array is no stack of three or four axes, or has fewer images.
    """
    if len(shape) not in (3, 4):
        raise UnusableFile(
            f"row {row} of an array that is no stack of images, but of shape {shape}"
        )
    if row >= shape[0]:
        raise UnusableFile(f"no row {row} in a stack of {shape[0]} images, counted from 0")


def read_npy_row(path: Path, size: int, row: int) -> np.ndarray:
    """Read one image of a stack.

    Raises:
        UnusableFile: not such a stack, or an image beyond the bounds.
    """
    with path.open("rb", buffering=0) as stream:
        layout, offset = split_header(stream.read(FIRST_READ_BYTES))
        require_row(row, () if layout.is_object else layout.shape)
        image = _image_layout(layout, size - offset)
        count = math.prod(image.shape) * real_dtype(image.descr).itemsize
        check_size(image, count)
        stream.seek(offset + row * count)
        return make_array(image, read_exactly(stream, count))


def _image_layout(layout: Layout, data_bytes: int) -> Layout:
    declared = math.prod(layout.shape) * real_dtype(layout.descr).itemsize
    if declared != data_bytes:
        raise UnusableFile(
            f"the header declares {byte_text(declared)}, the file holds {byte_text(data_bytes)}"
        )
    if 0 in layout.shape:
        raise UnusableFile("an array without values")
    if layout.shape[0] > MAX_ROWS:
        raise UnusableFile(f"a stack of {layout.shape[0]} images, at most {MAX_ROWS} are read")
    if layout.fortran_order:
        raise UnusableFile("a stack in Fortran order: save numpy.ascontiguousarray of it")
    return Layout(layout.descr, layout.shape[1:])
