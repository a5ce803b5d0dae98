"""A reader of `.npz` archives: one array, or `image` and `mass_ev`; unpacks nothing to disk."""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from deeplens_tf.data.npy import MAX_ARRAY_BYTES, MAX_HEADER_BYTES, byte_text, read_npy
from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.zip_archives import check_central_directory

MAX_COMPRESSION = 100  # unpacked bytes per packed byte, for members above UNLIMITED_BYTES
UNLIMITED_BYTES = 10 * 10**6
MAX_MASS_BYTES = 2 * MAX_HEADER_BYTES

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_PAIR = ["image.npy", "mass_ev.npy"]
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


def read_npz(path: Path) -> tuple[np.ndarray, float | None]:
    """Read the image of an archive, and its mass in eV if it contains one.

    Raises:
        UnusableFile: the archive contains anything else, or more than is read.
    """
    check_central_directory(path, max_members=2)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(archive)
    except UnusableFile:
        raise
    except _ZIP_ERRORS as error:
        raise UnusableFile("a damaged archive") from error


def _read_members(archive: zipfile.ZipFile) -> tuple[np.ndarray, float | None]:
    _check_names(archive.namelist())
    if len(archive.namelist()) == 1:
        return _read_member(archive, archive.infolist()[0]), None
    # Checked before the image is read, so that two large arrays are never in memory together.
    if archive.getinfo("mass_ev.npy").file_size > MAX_MASS_BYTES:
        raise UnusableFile("a mass_ev that is not one number")
    image, mass = (_read_member(archive, archive.getinfo(name)) for name in _PAIR)
    if mass.size != 1:
        raise UnusableFile("a mass_ev that is not one number")
    return image, float(mass.item())


def _check_names(names: list[str]) -> None:
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".npy"):
            raise UnusableFile(f"an archive with a member named {name[:60]!r}")
    if len(names) != 1 and sorted(names) != _PAIR:
        found = str(names)[:80]
        raise UnusableFile(
            f"an archive with members {found}, only one array, or image and mass_ev, is read"
        )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    max_bytes = max(UNLIMITED_BYTES, member.compress_size * MAX_COMPRESSION)
    max_bytes = min(MAX_ARRAY_BYTES, max_bytes)
    if member.file_size > max_bytes:
        raise UnusableFile(
            f"an archive that unpacks to {byte_text(member.file_size)}, at most "
            f"{byte_text(max_bytes)} are read"
        )
    if member.compress_type not in _METHODS:
        raise UnusableFile("an archive compressed in a way that NumPy does not use")
    with archive.open(member) as stream:
        array, mass_ev = read_npy(stream, member.file_size)
    if mass_ev is not None:
        raise UnusableFile("an object array inside an archive")
    return array
