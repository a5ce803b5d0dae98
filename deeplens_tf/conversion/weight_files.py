"""Reading the `.h5` files of Keras 2's `save_weights`, which may come from strangers.

Only HDF5's tree of arrays is read: no pickle, no configuration of a model, no link to another
file, no filter. All arrays together are no larger than the file, so that what is read can take no
more memory than the file takes space.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError
from deeplens_tf.saving.archive_checks import MAX_BYTES

MAX_ARRAYS = 10_000
MAX_OBJECTS = 50_000  # groups and arrays
MAX_DEPTH = 32  # of groups within groups
MAX_NAME = 1000
Stored = dict[str, h5py.Dataset]


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[Stored]:
    """Open a file of weights; its arrays can be read while it is open.

    Args:
        path: written by `save_weights` of Keras 2, or by its `save` for a whole model.

    Returns:
        Each array by its name in the file, `layer/.../kernel:0`.

    Raises:
        RequestError: no such file, no HDF5, another layout, or arrays that are no plain ones.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise RequestError(f"{path}: larger than {MAX_BYTES} bytes")
    with path.open("rb"):  # a file that may not be read is no fault of its content
        pass
    with _damage_as_request(path):
        file = h5py.File(path, "r")
    with file:
        with _damage_as_request(path):
            stored = _arrays(path, _weights_of(path, file))
        yield stored


def read_array(path: Path, array: h5py.Dataset) -> NDArray[np.float32]:
    """Read one array of an open file.

    Raises:
        RequestError: the file is damaged.
    """
    with _damage_as_request(path):
        return np.asarray(array, np.float32)


@contextlib.contextmanager
def _damage_as_request(path: Path) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    # h5py raises these for damage, wherever in the file it meets it; the last for a length.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"{path}: not an HDF5 file that can be read: {error}") from error


def _weights_of(path: Path, file: h5py.File) -> h5py.Group:
    """Return the group that holds the layers: the file itself, or a part of a whole model's."""
    link = file.get("model_weights", getlink=True)
    group = file["model_weights"] if isinstance(link, h5py.HardLink) else file
    # A long list is spread over layer_names0, layer_names1 ...
    if not {"layer_names", "layer_names0"} & set(group.attrs):
        raise RequestError(
            f"{path}: not written by save_weights of Keras 2: it has no list of layer_names"
        )
    return group


def _arrays(path: Path, group: h5py.Group) -> Stored:
    found: Stored = {}
    seen = itertools.count(1)

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        # Raised from within, before HDF5 goes deeper or further.
        if name.count("/") > MAX_DEPTH or len(name) > MAX_NAME or next(seen) > MAX_OBJECTS:
            raise RequestError(f"{path}: not a tree of at most {MAX_OBJECTS} groups and arrays")
        if isinstance(item, h5py.Dataset):
            _require_plain(f"{path}: {name}", item)
            found[name] = item
        if len(found) > MAX_ARRAYS:
            raise RequestError(f"{path}: more than {MAX_ARRAYS} arrays")

    group.visititems(keep)  # follows neither soft links nor links to other files
    held = sum(array.nbytes for array in found.values())
    if held > path.stat().st_size:
        raise RequestError(f"{path}: arrays of {held} bytes, more than the file has")
    return found


def _require_plain(where: str, array: h5py.Dataset) -> None:
    # Half-precision numbers would take twice the file's space once they are read.
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise RequestError(
            f"{where} holds {array.dtype}, not floating-point numbers of 4 or 8 bytes"
        )
    if array.external or array.is_virtual:
        raise RequestError(f"{where} lies in another file")
    if array.id.get_create_plist().get_nfilters():
        raise RequestError(f"{where} is compressed; save_weights of Keras 2 compresses nothing")
    if array.id.get_storage_size() < array.nbytes:
        raise RequestError(f"{where} claims shape {array.shape}, and the file holds less")
