"""The `.npz` archives: one array, or `image` and `mass_ev`; nothing is unpacked to disk."""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from deeplens_tf.data.npy import MAX_ARRAY_BYTES, MAX_HEADER_BYTES, byte_text, read_npy
from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.zip_archives import check_directory

MAX_RATIO = 100  # of unpacked to packed bytes, for members that would take real memory
SMALL_BYTES = 10 * 10**6
MAX_NUMBER_BYTES = 2 * MAX_HEADER_BYTES

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_PAIR = ["image.npy", "mass_ev.npy"]
_READ = "only one array, or image and mass_ev, is read"
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


def read_npz(path: Path) -> tuple[np.ndarray, float | None]:
    """Read the image of an archive, and its mass in eV where it holds one.

    Raises:
        UnusableFile: the archive holds anything else, or more than is read.
    """
    check_directory(path, max_members=2)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(archive)
    except UnusableFile:
        raise
    except _DAMAGED as error:
        raise UnusableFile("a damaged archive") from error


def _read_members(archive: zipfile.ZipFile) -> tuple[np.ndarray, float | None]:
    members = {member.filename: member for member in archive.infolist()}
    _check_names([member.filename for member in archive.infolist()])
    if len(members) == 1:
        return _read_member(archive, *members.values()), None
    # Before the image is read: two of the largest arrays at once are more than is promised.
    if members["mass_ev.npy"].file_size > MAX_NUMBER_BYTES:
        raise UnusableFile("a mass_ev that is not one number")
    image = _read_member(archive, members["image.npy"])
    mass = _read_member(archive, members["mass_ev.npy"])
    if mass.size != 1:
        raise UnusableFile("a mass_ev that is not one number")
    return image, float(mass.reshape(()))


def _check_names(names: list[str]) -> None:
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".npy"):
            raise UnusableFile(f"an archive with a member named {name[:60]!r}")
    if len(names) != 1 and sorted(names) != _PAIR:
        raise UnusableFile(f"an archive with members {str(names)[:80]}, {_READ}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    allowed = max(SMALL_BYTES, member.compress_size * MAX_RATIO)
    if member.file_size > min(MAX_ARRAY_BYTES, allowed):
        raise UnusableFile(f"an archive that unpacks to {byte_text(member.file_size)}")
    if member.compress_type not in _METHODS:
        raise UnusableFile("an archive compressed in a way that NumPy does not use")
    with archive.open(member) as stream:
        array, mass = read_npy(stream, member.file_size)
    if mass is not None:
        raise UnusableFile("an object array inside an archive")
    return array
