"""Reads the untrusted `.h5` files of Keras 2's `save_weights`.

Only arrays are read: no pickle, no configuration of a model, no link to another file, no filter.
All arrays together are no larger than the file, so reading takes no more memory than its size.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.hdf5_arrays import MAX_WEIGHT_FILE_BYTES, find_arrays

MAX_ARRAYS = 10_000  # HDF5 keeps each one open
StoredArrays = dict[str, h5py.Dataset]


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[StoredArrays]:
    """Open a file of weights; its arrays can be read while it is open.

    Args:
        path: file written by Keras 2, by `save_weights` or by `save` for a complete model.

    Yields:
        Each array by its name in the file, `layer/.../kernel:0`.

    Raises:
        RequestError: not an HDF5 file, another layout, or an array that isn't plain.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    if path.stat().st_size > MAX_WEIGHT_FILE_BYTES:
        raise RequestError(f"{path}: larger than {MAX_WEIGHT_FILE_BYTES} bytes")
    with path.open("rb"):  # reports a missing permission, which is not damage
        pass
    with _refusing(path):
        file = h5py.File(path, "r")
    with file:
        with _refusing(path):
            stored = _find_plain_arrays(_weight_group(file), path.stat().st_size)
        yield stored


def read_array(path: Path, array: h5py.Dataset) -> NDArray[np.float32]:
    """Read an array of an open file.

    Raises:
        RequestError: the file is damaged.
    """
    with _refusing(path):
        return np.asarray(array, np.float32)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except UnusableFile as error:
        raise RequestError(f"{path}: {error}") from error
    # h5py raises these for damage anywhere in the file; the last one for an invalid length.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"{path}: not an HDF5 file that can be read: {error}") from error


def _weight_group(file: h5py.File) -> h5py.Group:
    """Return the group of the layers: the root, or a subgroup in the file of a complete model."""
    link = file.get("model_weights", getlink=True)
    group = file["model_weights"] if isinstance(link, h5py.HardLink) else file
    # Keras splits a long list into layer_names0, layer_names1 ...
    if not isinstance(group, h5py.Group) or not (
        "layer_names" in group.attrs or "layer_names0" in group.attrs
    ):
        raise UnusableFile("not written by save_weights of Keras 2: it has no list of layer_names")
    return group


def _find_plain_arrays(group: h5py.Group, file_bytes: int) -> StoredArrays:
    found: StoredArrays = {}
    for name, array in find_arrays(group, file_bytes, skip_links=True):
        _require_plain(name, array)
        found[name] = array
        if len(found) > MAX_ARRAYS:
            raise UnusableFile(f"more than {MAX_ARRAYS} arrays")
    return found


def _require_plain(name: str, array: h5py.Dataset) -> None:
    # Half-precision numbers would take twice the size of the file once they are read.
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise UnusableFile(
            f"{name} contains {array.dtype}, not floating-point numbers of 4 or 8 bytes"
        )
    if array.id.get_storage_size() < array.nbytes:
        raise UnusableFile(f"{name} declares shape {array.shape}, but the file contains less")
