"""A reader of HDF5 arrays of images that checks every size before memory is allocated.

HDF5 gets the open file and not its path, follows no link, and reads no array that is stored
elsewhere or packed by a filter other than those below, so that it opens no other file and loads no
plugin.
"""

import contextlib
import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deeplens_tf.data.formats.npy_stacks import MAX_ROWS, refuse_stack, require_row
from deeplens_tf.data.npy import MAX_VALUES, byte_text
from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.hdf5_arrays import find_arrays

MAX_UNPACKING = 100  # bytes of an array per byte that is stored, above UNLIMITED_UNPACKED_BYTES
UNLIMITED_UNPACKED_BYTES = 10**7
MAX_CHUNK_BYTES = 1 << 26
MAX_CHUNKS_PER_IMAGE = 4096
MAX_LZF_BYTES = 1 << 20  # LZF makes up to 88 bytes of one

_GZIP, _LZF = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF
_FILTERS = (_GZIP, _LZF, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


def hdf5_count(path: Path, name: str | None) -> int | None:
    """Return the number of images in an array of images, None for an array that is one image.

    Raises:
        UnusableFile: see `read_hdf5`.
    """
    with _open_array(path, name) as array:
        return int(array.shape[0]) if array.ndim > 2 else None


def read_hdf5(path: Path, name: str | None, row: int | None) -> np.ndarray:
    """Read an image of a file's array.

    Args:
        path: a regular file.
        name: of the array; None for the only one of three or four axes, or else of two.
        row: which image of an array of images; None for an array of two axes.

    Returns:
        Integers or floating point numbers in native byte order, of two or three axes.

    Raises:
        UnusableFile: no such array, several of them, one that is not of images, or damage.
    """
    with _open_array(path, name) as array:
        if row is None:
            refuse_stack(len(array) if array.ndim > 2 else None)
        else:
            require_row(row, array.shape)
        for chunk in _chunks(array, row):
            _check_chunk(array, chunk)
        values = np.asarray(array[()] if row is None else array[row])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _open_array(path: Path, name: str | None) -> Iterator[Any]:
    with path.open("rb") as stream:
        try:
            with h5py.File(stream, "r") as file:
                array = _chosen(file, name)
                _check(array, path.stat().st_size)
                yield array
        except UnusableFile:
            raise
        except Exception as error:  # h5py raises almost any class for a damaged file
            raise UnusableFile("a damaged HDF5 file") from error


def _chosen(file: h5py.File, name: str | None) -> Any:
    arrays = dict(find_arrays(file, math.inf, skip_links=True, filters=_FILTERS))
    if name is not None:
        if name.strip("/") not in arrays:
            raise UnusableFile(f"no array {name} in it; {_listed(arrays)}")
        return arrays[name.strip("/")]
    stacks = [key for key, array in arrays.items() if array.ndim in (3, 4) and _is_real(array)]
    flat = [key for key, array in arrays.items() if array.ndim == 2 and _is_real(array)]
    found = stacks or flat
    if not found:
        raise UnusableFile(f"no array of images in it; {_listed(arrays)}")
    if len(found) > 1:
        listed = ", ".join(found)[:200]
        raise UnusableFile(f"several arrays of images: {listed}; set data.hdf5_dataset to one")
    return arrays[found[0]]


def _listed(arrays: dict[str, Any]) -> str:
    return f"its arrays: {', '.join(arrays)[:200]}" if arrays else "it has no array"


def _is_real(array: Any) -> bool:
    return array.dtype.kind in "iuf" and array.dtype.itemsize <= 8


def _check(array: Any, file_bytes: int) -> None:
    if not _is_real(array):
        raise UnusableFile(f"values of type {array.dtype.str!r:.20} instead of real numbers")
    if array.ndim not in (2, 3, 4):
        raise UnusableFile(f"an array of {array.ndim} axes; images have 2, stacks of them 3 or 4")
    if 0 in array.shape:
        raise UnusableFile("an array without values")
    rows, image = (array.shape[0], array.shape[1:]) if array.ndim > 2 else (1, array.shape)
    if rows > MAX_ROWS:
        raise UnusableFile(f"a stack of {rows} images, at most {MAX_ROWS} are read")
    if math.prod(image) > MAX_VALUES:
        raise UnusableFile(f"{math.prod(image)} values an image, at most {MAX_VALUES} are read")
    stored = min(array.id.get_storage_size(), file_bytes)
    if array.nbytes > max(UNLIMITED_UNPACKED_BYTES, MAX_UNPACKING * stored):
        raise UnusableFile(
            f"an array of {byte_text(array.nbytes)}, of which the file holds {byte_text(stored)}"
        )


def _chunks(array: Any, row: int | None) -> Iterator[tuple[int, ...]]:
    """Yield where each chunk of an image starts.

    Raises:
        UnusableFile: larger or more chunks than are read.
    """
    if not array.chunks:
        return
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_CHUNK_BYTES:
        raise UnusableFile(f"chunks of more than {byte_text(MAX_CHUNK_BYTES)}")
    starts = [range(0, side, step) for side, step in zip(array.shape, array.chunks, strict=True)]
    if row is not None:
        first = row // array.chunks[0] * array.chunks[0]
        starts[0] = range(first, first + 1)
    if math.prod(map(len, starts)) > MAX_CHUNKS_PER_IMAGE:
        raise UnusableFile(f"more than {MAX_CHUNKS_PER_IMAGE} chunks an image")
    yield from itertools.product(*starts)


def _check_chunk(array: Any, start: tuple[int, ...]) -> None:
    """Refuse a chunk that unpacks to more than it declares; HDF5 would unpack all of it."""
    properties = array.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    stored = array.id.get_chunk_info_by_coord(start)
    if stored.byte_offset is None:
        return
    # A bit of the mask: this chunk is stored without that filter, which did not make it smaller.
    used = [code for i, code in enumerate(filters) if not stored.filter_mask >> i & 1]
    packed = [code for code in used if code in (_GZIP, _LZF)]
    most = math.prod(array.chunks) * array.dtype.itemsize + 4  # with a checksum
    if len(packed) > 1 or stored.size > (MAX_LZF_BYTES if packed == [_LZF] else 2 * most):
        raise UnusableFile("a chunk that is packed in a way that h5py does not use")
    if packed == [_GZIP]:
        inflate = zlib.decompressobj()
        inflate.decompress(array.id.read_direct_chunk(start)[1], most + 1)
        if not inflate.eof:
            raise UnusableFile("a chunk that unpacks to more than it declares")
