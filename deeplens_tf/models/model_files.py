"""What a `.keras` file asks for, looked at before Keras makes anything of it.

Such a file is a recipe (config.json) and weights (HDF5). Keras's safe mode refuses code, yet makes
any object of Keras that the recipe names, of any size, and follows references out of the weights.
Past holes were of these kinds: classes and functions called by name (CVE-2025-1550, -8747, -9906,
CVE-2026-1462), files read by a layer (CVE-2025-12058) or through the weights (CVE-2026-1669), a few
bytes that declare any size (CVE-2026-0897). Here a recipe may name the few classes that this
package saves, ask for no more weights than the file holds, and the weights must lie in the file.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py

from deeplens_tf.archives import check_directory
from deeplens_tf.errors import UnusableFile
from deeplens_tf.models.recipes import check_recipe

MAX_BYTES = 2 * 10**9
MAX_RECIPE_BYTES = 1 << 20
MAX_EXPANSION = 4  # of unpacked to packed bytes: Keras does not pack weights, and they hardly pack
SMALL_BYTES = 1 << 20
MAX_OBJECTS = 50_000

RECIPE, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {RECIPE, WEIGHTS, "metadata.json"}
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def check_model_file(path: Path) -> None:
    """Refuse a model file that is not as this package saves one.

    Args:
        path: a regular file.

    Raises:
        UnusableFile: with the reason.
    """
    if path.suffix != ".keras":
        raise UnusableFile("not a .keras file")
    if path.stat().st_size > MAX_BYTES:
        raise UnusableFile(f"larger than {MAX_BYTES} bytes")
    check_directory(path, most_members=len(_MEMBERS))
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist())
            recipe, weights = archive.read(RECIPE), archive.read(WEIGHTS)
    # `zipfile` raises these for archives that are damaged, or packed as none of ours is.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise UnusableFile(f"a damaged archive: {error}") from error
    check_recipe(_parse(recipe), len(weights))
    check_weights(weights)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) != len(members) or not {RECIPE, WEIGHTS} <= set(sizes) <= _MEMBERS:
        raise UnusableFile(f"holds {', '.join(sorted(sizes)) or 'nothing'}, not one model")
    for member in members:
        allowed = max(SMALL_BYTES, MAX_EXPANSION * member.compress_size)
        if member.file_size > allowed or member.compress_type not in _METHODS:
            raise UnusableFile(f"{member.filename} would unpack to {member.file_size} bytes")
    if sizes[RECIPE] > MAX_RECIPE_BYTES:
        raise UnusableFile(f"a {RECIPE} of {sizes[RECIPE]} bytes")


def _parse(recipe: bytes) -> Any:
    try:
        return json.loads(recipe)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{RECIPE} is not JSON: {error}") from error


def check_weights(weights: bytes) -> None:
    """Hold the weights to be plain arrays that lie, whole, in these bytes.

    Args:
        weights: an HDF5 file.

    Raises:
        UnusableFile: with the reason.
    """
    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            held = _array_bytes(file)
    except UnusableFile:
        raise
    except Exception as error:  # h5py raises nearly any kind for a damaged file
        raise UnusableFile(f"{WEIGHTS} is damaged: {error}") from error
    if held > len(weights):
        raise UnusableFile(f"{WEIGHTS} declares arrays of {held} bytes in {len(weights)}")


def _array_bytes(file: h5py.File) -> int:
    """Return the size of all arrays; groups within groups are walked without recursion."""
    paths, held, seen = ["/"], 0, {_place(file)}
    while paths:
        path = paths.pop()
        for name in file[path]:
            item = _item(file[path], name)
            # Something that is in two places could be in itself.
            if _place(item) in seen or len(seen) > MAX_OBJECTS:
                raise UnusableFile(f"{WEIGHTS} is not a tree of at most {MAX_OBJECTS} objects")
            seen.add(_place(item))
            if isinstance(item, h5py.Group):
                paths.append(f"{path}{name}/")
            else:
                held += item.nbytes
    return held


def _place(item: h5py.Group | h5py.Dataset) -> int:
    return h5py.h5o.get_info(item.id).addr


def _item(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    # A link of another class leads to another name or out of the file.
    if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
        raise UnusableFile(f"{WEIGHTS} holds a link, {name:.40}")
    item = group[name]
    if isinstance(item, h5py.Group):
        return item
    # Stored elsewhere, put together from elsewhere, or packed: Keras writes none of these.
    plain = isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual or item.chunks)
    if not plain or item.dtype.kind not in "fiuV" or item.dtype.itemsize > 8:
        raise UnusableFile(f"{WEIGHTS} holds {name:.40}, which is no plain array")
    return item
