"""Arrays in an uncompressed `.npz` file, which are mapped into memory instead of copied to it.

NumPy reads such a file too. It contains no pickles, and equal arrays give equal bytes.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.npy import FIRST_READ_BYTES, READ_CHUNK_BYTES, split_header
from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.zip_archives import StoredMember, check_central_directory

MAX_MEMBERS = 8
MAX_CODE_POINT = 0x10FFFF
MAX_JSON_CHARACTERS = 100_000

_ALIGNMENT, _LOCAL_HEADER_BYTES = 64, 30
_PADDING_FIELD = 0xD935  # zip's number of the field that aligns a member, as zipalign writes it
_UNREADABLE = (zipfile.BadZipFile, struct.error, EOFError, RuntimeError, ValueError)


class StoredArray(NamedTuple):
    """An array of a file, mapped into memory, and the CRC-32 of its bytes with their header."""

    values: NDArray
    checksum: int


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header of an array in NumPy's format."""
    header = io.BytesIO()
    layout = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    return header.getvalue()


def store_array(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], data: Iterable[bytes]
) -> None:
    """Append an array to an archive, part by part, where a map of it is aligned."""
    member = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date
    start = archive.start_dir + _LOCAL_HEADER_BYTES + len(member.filename) + 4
    padding = -start % _ALIGNMENT
    member.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
    with archive.open(member, "w") as stream:
        stream.write(npy_header(dtype, shape))
        for part in data:
            stream.write(part)


def names_of(path: Path) -> list[str]:
    """Return the names of the arrays of a file.

    Raises:
        UnusableFile: not such a file.
    """
    try:
        check_central_directory(path, MAX_MEMBERS)
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _UNREADABLE as error:
        raise UnusableFile(str(error)) from error


def stored_arrays(
    path: Path, needed: Collection[str], allowed: Collection[str], check: Callable[[str, str], None]
) -> dict[str, StoredArray]:
    """Map the arrays of a file, every byte of which is read once, to compare checksums.

    Args:
        path: of the file.
        needed: names of arrays that it must have.
        allowed: names of all that it may have.
        check: raises `UnusableFile` for the name of an array and a type that it must not have.

    Raises:
        UnusableFile: other arrays, or a damaged file.
    """
    names = names_of(path)
    if len({*names}) != len(names) or not {*needed} <= {*names} <= {*allowed}:
        found = ", ".join(sorted(names))[:200] or "nothing"
        raise UnusableFile(f"it holds {found} instead of {', '.join(needed)}")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _mapped(path, archive, name, check) for name in names}
    except _UNREADABLE as error:
        raise UnusableFile(str(error)) from error


def _mapped(
    path: Path, archive: zipfile.ZipFile, name: str, check: Callable[[str, str], None]
) -> StoredArray:
    """Map one array into memory, after its size and its checksum were compared."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise UnusableFile(f"{name} is compressed, which this package never does")
    with archive.open(member) as stream:  # which compares the checksum at the end
        while stream.read(READ_CHUNK_BYTES):
            pass
    with StoredMember(path, member) as stored:
        layout, offset = split_header(stored.read(FIRST_READ_BYTES) or b"")
        start = stored.start + offset
    check(name, layout.descr)
    dtype = np.dtype(layout.descr)
    if math.prod(layout.shape) * dtype.itemsize != member.file_size - offset:
        raise UnusableFile(f"the header of {name} does not match its size")
    if layout.fortran_order and len(layout.shape) > 1:
        raise UnusableFile(f"{name} is in Fortran order")
    if 0 in layout.shape:
        raise UnusableFile(f"{name} is empty")
    values = np.memmap(path, dtype, "r", start, layout.shape)
    if dtype.kind == "U":
        _require_text(name, values)
    return StoredArray(values, member.CRC)


def _require_text(name: str, values: NDArray) -> None:
    """Refuse numbers that are no characters, which NumPy stores as they are."""
    step = max(1, READ_CHUNK_BYTES // values.dtype.itemsize)
    flat = values.reshape(-1)
    for start in range(0, len(flat), step):
        part = np.ascontiguousarray(flat[start : start + step])
        if part.view("<u4").max() > MAX_CODE_POINT:
            raise UnusableFile(f"{name} is damaged: not characters")


def text_of(name: str, values: NDArray) -> str:
    """Return an array that is a text in JSON.

    Raises:
        UnusableFile: it is something else, or very long.
    """
    if values.shape != () or values.dtype.itemsize > 4 * MAX_JSON_CHARACTERS:
        raise UnusableFile(f"{name} is no text")
    return str(values[()])


def checksum_of(parts: Iterable[bytes], dtype: str, shape: tuple[int, ...]) -> int:
    """Return the checksum that a stored array has, which arrives in parts."""
    found = zlib.crc32(npy_header(dtype, shape))
    for part in parts:
        found = zlib.crc32(part, found)
    return found
