"""What a `.keras` file asks for, looked at before Keras makes anything of it.

Such a file is a recipe (config.json) and weights (HDF5). Keras's safe mode refuses code, yet makes
any object of Keras that the recipe names, of any size, and follows references out of the weights.
Past holes were of these kinds: classes and functions called by name (CVE-2025-1550, -8747, -9906,
CVE-2026-1462), files read by a layer (CVE-2025-12058) or through the weights (CVE-2026-1669), a few
bytes that declare any size (CVE-2026-0897). Here a recipe may name the few classes that this
package saves, ask for no more weights than the file holds, and the weights must lie in the file.
"""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.zip_archives import StoredMember, check_directory
from deeplens_tf.saving.allow_list import check_recipe

MAX_BYTES = 2 * 10**9
MAX_RECIPE_BYTES = 1 << 20
MAX_OBJECTS = 50_000
MAX_DEPTH = 32  # of groups within groups; our deepest model has seven
MAX_NAME = 1000
PIECE_BYTES = 1 << 20

RECIPE, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {RECIPE, WEIGHTS, "metadata.json"}
# What `zipfile` raises for archives that are damaged, or packed as none of ours is.
_DAMAGED = (zipfile.BadZipFile, struct.error, EOFError, RuntimeError, ValueError, OSError)


def check_model_file(path: Path) -> None:
    """Refuse a model file that is not as this package saves one.

    The weights are looked at where they lie: no size of theirs is one of memory.

    Args:
        path: a regular file.

    Raises:
        UnusableFile: with the reason.
    """
    if path.suffix != ".keras":
        raise UnusableFile("not a .keras file")
    if path.stat().st_size > MAX_BYTES:
        raise UnusableFile(f"larger than {MAX_BYTES} bytes")
    check_directory(path, max_members=len(_MEMBERS))
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path.stat().st_size)
            recipe = _parse(archive.read(RECIPE))
            check_recipe(recipe, archive.getinfo(WEIGHTS).file_size)
            _check_sums(archive)
            with StoredMember(path, archive.getinfo(WEIGHTS)) as weights:
                check_weights(weights, weights.size)
    except UnusableFile:
        raise
    except _DAMAGED as error:
        raise UnusableFile(f"a damaged archive: {error}") from error


def _check_members(members: list[zipfile.ZipInfo], held: int) -> None:
    """Hold the table of contents to its file: Python's reader believes any size that it names."""
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) != len(members) or not {RECIPE, WEIGHTS} <= set(sizes) <= _MEMBERS:
        raise UnusableFile(f"holds {', '.join(sorted(sizes)) or 'nothing'}, not one model")
    for member in members:
        # Keras packs nothing, so what a member takes is what it holds.
        plain = member.compress_type == zipfile.ZIP_STORED
        if not plain or member.file_size != member.compress_size:
            raise UnusableFile(f"{member.filename} is packed, which Keras does not do")
        if member.header_offset + member.file_size > held:
            raise UnusableFile(f"{member.filename} of {member.file_size} bytes in {held}")
    if sizes[RECIPE] > MAX_RECIPE_BYTES:
        raise UnusableFile(f"a {RECIPE} of {sizes[RECIPE]} bytes")


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Read every member through, a piece at a time: `zipfile` checks its sum at the end."""
    for member in archive.infolist():
        with archive.open(member) as stream:
            while stream.read(PIECE_BYTES):
                pass


def _parse(recipe: bytes) -> Any:
    try:
        return json.loads(recipe)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{RECIPE} is not JSON: {error}") from error


def check_weights(weights: BinaryIO, size: int) -> None:
    """Hold the weights to be plain arrays that lie, whole, in these bytes.

    Args:
        weights: an HDF5 file, open for reading.
        size: bytes that it has.

    Raises:
        UnusableFile: with the reason.
    """
    try:
        with h5py.File(weights, "r") as file:
            held = _array_bytes(file, {_place(file)}, MAX_DEPTH)
    except UnusableFile:
        raise
    except Exception as error:  # h5py raises nearly any kind for a damaged file
        raise UnusableFile(f"{WEIGHTS} is damaged: {error}") from error
    if held > size:
        raise UnusableFile(f"{WEIGHTS} declares arrays of {held} bytes in {size}")


def _array_bytes(group: h5py.Group, seen: set[int], depth: int) -> int:
    """Return the size of all arrays in a group; `seen` is where those found so far lie."""
    held = 0
    for name in _names(group):
        item = _item(group, name)
        # Something that is in two places could be in itself.
        if _place(item) in seen or len(seen) > MAX_OBJECTS or not depth:
            raise UnusableFile(f"{WEIGHTS} is not a tree of at most {MAX_OBJECTS} objects")
        seen.add(_place(item))
        is_group = isinstance(item, h5py.Group)
        held += _array_bytes(item, seen, depth - 1) if is_group else item.nbytes
    return held


def _names(group: h5py.Group) -> list[str]:
    """Return what a group holds by name; h5py would make a list of any length."""
    names: list[str] = []

    def keep(name: bytes) -> bool | None:
        names.append(name.decode("utf-8", "surrogateescape"))
        return len(names) > MAX_OBJECTS or len(name) > MAX_NAME or None

    stopped, _ = group.id.links.iterate(keep, order=h5py.h5.ITER_NATIVE)
    if stopped:
        raise UnusableFile(f"{WEIGHTS} is not a tree of at most {MAX_OBJECTS} objects")
    return names


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
