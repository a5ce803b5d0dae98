"""Checks of an untrusted `.keras` file before Keras reads it.

The file contains a recipe (config.json) and weights (HDF5). Keras's safe mode refuses code, but it
builds any Keras object that the recipe names, of any size, and follows links out of the weights.
Past vulnerabilities were of these kinds: classes and functions called by name (CVE-2025-1550,
-8747, -9906, CVE-2026-1462), files read by a layer (CVE-2025-12058) or through the weights
(CVE-2026-1669), a few bytes that declare any size (CVE-2026-0897). Here a recipe may name only the
few classes that this package saves, networks only as the expected parts of a model, and request no
more weights than the file contains, and the weights must be stored in the file.
"""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py

from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.hdf5_arrays import MAX_WEIGHT_FILE_BYTES, find_arrays
from deeplens_tf.files.zip_archives import StoredMember, check_central_directory
from deeplens_tf.saving.allow_list import check_recipe

MAX_RECIPE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20

RECIPE, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {RECIPE, WEIGHTS, "metadata.json"}
# Raised by `zipfile` for damaged archives, and for features that Keras doesn't use.
_DAMAGED = (zipfile.BadZipFile, struct.error, EOFError, RuntimeError, ValueError, OSError)


def check_model_file(path: Path) -> None:
    """Refuse a model file that this package could not have saved.

    The weights are checked in the archive, so their size takes no memory.

    Args:
        path: a regular file.

    Raises:
        UnusableFile: with the reason.
    """
    if path.suffix != ".keras":
        raise UnusableFile("not a .keras file")
    if path.stat().st_size > MAX_WEIGHT_FILE_BYTES:
        raise UnusableFile(f"larger than {MAX_WEIGHT_FILE_BYTES} bytes")
    check_central_directory(path, max_members=len(_MEMBERS))
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path.stat().st_size)
            _check_checksums(archive)
            with StoredMember(path, archive.getinfo(WEIGHTS)) as weights:
                check_weights(weights, weights.size)
            # The most expensive check is the last one.
            check_recipe(_parse(archive.read(RECIPE)), weights.size)
    except UnusableFile:
        raise
    except _DAMAGED as error:
        raise UnusableFile(f"a damaged archive: {error}") from error


def check_weights(weights: io.IOBase, size: int) -> None:
    """Refuse weights other than plain arrays that are stored completely in these bytes.

    Args:
        weights: an HDF5 file, open for reading.
        size: its size in bytes.

    Raises:
        UnusableFile: with the reason.
    """
    try:
        with h5py.File(weights, "r") as file:
            for name, array in find_arrays(file, size):
                _require_plain(name, array)
    except UnusableFile as error:
        raise UnusableFile(f"{WEIGHTS}: {error}") from error
    except Exception as error:  # h5py raises almost any class for a damaged file
        raise UnusableFile(f"{WEIGHTS} is damaged: {error}") from error


def _check_members(members: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    """Check the sizes in the central directory, which Python's reader would trust."""
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) != len(members) or not {RECIPE, WEIGHTS} <= set(sizes) <= _MEMBERS:
        raise UnusableFile(f"contains {', '.join(sorted(sizes)) or 'nothing'}, not one model")
    for member in members:
        stored = member.compress_type == zipfile.ZIP_STORED
        if not stored or member.file_size != member.compress_size:
            raise UnusableFile(f"{member.filename} is compressed, which Keras never does")
        if member.header_offset + member.file_size > archive_bytes:
            raise UnusableFile(
                f"{member.filename} claims {member.file_size} bytes, "
                f"the archive has {archive_bytes}"
            )
    if sizes[RECIPE] > MAX_RECIPE_BYTES:
        raise UnusableFile(f"{RECIPE} has {sizes[RECIPE]} bytes, the maximum is {MAX_RECIPE_BYTES}")


def _check_checksums(archive: zipfile.ZipFile) -> None:
    """Read every member in chunks, because `zipfile` compares the checksum at the end."""
    for member in archive.infolist():
        with archive.open(member) as stream:
            while stream.read(CHUNK_BYTES):
                pass


def _parse(recipe: bytes) -> Any:
    try:
        return json.loads(recipe)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{RECIPE} is not JSON: {error}") from error


def _require_plain(name: str, array: h5py.Dataset) -> None:
    # Keras writes contiguous arrays of numbers; bfloat16 has the kind "V".
    if array.chunks or array.dtype.kind not in "fiuV" or array.dtype.itemsize > 8:
        raise UnusableFile(f"{name} is not a plain array of numbers")
