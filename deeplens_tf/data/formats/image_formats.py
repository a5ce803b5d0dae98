"""The image formats that are read: their suffixes, their first bytes and their readers.

A suffix only says which files of a folder are images. What a file is, its first bytes decide. A
reader, with the library that it needs, is imported when the first file of its format is read.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplens_tf.data.npy import MAGIC, read_npy
from deeplens_tf.data.npz import read_npz
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.terminal import counted

FIRST_BYTES = 32  # of a file, enough to know its format
READ_TEXT = "only .npy, .npz, FITS, HDF5, PNG, JPEG and TIFF files are read"


Read = tuple[np.ndarray, float | None]  # the array as it is stored, and its mass in eV or None
Reader = Callable[[Path, int, Selection, int | None], Read]
Count = Callable[[Path, int, Selection], int | None]


@dataclass(frozen=True)
class ImageFormat:
    """A format of image files.

    Attributes:
        suffixes: of its files, in lower case.
        begins: the first bytes of a file, one of these.
        read: from a path, the size of the file, a selection, and the row in a stack of images or
            None, to an array of real numbers.
        count: from the first three of these to the number of images in a stack; None for a file
            that is one image. None where a file of the format is always one image.
    """

    suffixes: tuple[str, ...]
    begins: tuple[bytes, ...]
    read: Reader
    count: Count | None = None


def _read_npy(path: Path, size: int, selection: Selection, row: int | None) -> Read:
    if row is not None or selection.stacks:
        from deeplens_tf.data.formats.npy_stacks import npy_count, read_npy_row, refuse_stack

        if row is not None:
            return read_npy_row(path, size, row), None
        refuse_stack(npy_count(path, size))
    with path.open("rb", buffering=0) as stream:
        return read_npy(stream, size)


def _count_npy(path: Path, size: int, selection: Selection) -> int | None:
    if not selection.stacks:
        return None
    from deeplens_tf.data.formats.npy_stacks import npy_count

    return npy_count(path, size)


def _read_hdf5(path: Path, size: int, selection: Selection, row: int | None) -> Read:
    from deeplens_tf.data.formats.hdf5 import read_hdf5

    return read_hdf5(path, selection.hdf5_dataset, row), None


def _count_hdf5(path: Path, size: int, selection: Selection) -> int | None:
    from deeplens_tf.data.formats.hdf5 import hdf5_count

    return hdf5_count(path, selection.hdf5_dataset)


def _read_npz(path: Path, size: int, selection: Selection, row: int | None) -> Read:
    return read_npz(path)


def _read_fits(path: Path, size: int, selection: Selection, row: int | None) -> Read:
    from deeplens_tf.data.formats.fits import read_fits

    return read_fits(path, selection.fits_hdu), None


def _read_picture(path: Path, size: int, selection: Selection, row: int | None) -> Read:
    from deeplens_tf.data.formats.pictures import read_picture

    return read_picture(path, size), None


# `.fz` is the suffix of FITS files whose images are compressed in tiles.
_FITS = tuple(f".{name}{end}" for name in ("fits", "fit", "fts") for end in ("", ".gz", ".fz"))
_HDF5 = (".h5", ".hdf5")
FORMATS = (
    ImageFormat((".npy",), (MAGIC,), _read_npy, _count_npy),
    ImageFormat((".npz",), (b"PK\3\4", b"PK\5\6"), _read_npz),
    ImageFormat(_FITS, (b"SIMPLE  =", b"\x1f\x8b"), _read_fits),
    ImageFormat(_HDF5, (b"\x89HDF\r\n\x1a\n",), _read_hdf5, _count_hdf5),
    ImageFormat((".png",), (b"\x89PNG\r\n\x1a\n",), _read_picture),
    ImageFormat((".jpg", ".jpeg"), (b"\xff\xd8\xff",), _read_picture),
    ImageFormat((".tif", ".tiff"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _read_picture),
)
IMAGE_SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
SELECTED_BY = {"fits_hdu": _FITS, "hdf5_dataset": _HDF5}  # the files that a choice is about
_OWN_RANK = (".npy", ".npz")  # which earlier versions read


def is_image_name(name: str) -> bool:
    """Return whether a file is read as an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_fits_name(name: str) -> bool:
    """Return whether a file is a FITS file by its name."""
    return name.lower().endswith(_FITS)


def format_of(start: bytes) -> ImageFormat:
    """Return the format of a file, from its first bytes.

    Raises:
        UnusableFile: none that is read.
    """
    for known in FORMATS:
        if start.startswith(known.begins):
            return known
    is_text = bool(start) and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)
    raise UnusableFile(f"{'text, ' if is_text else ''}not an image: {READ_TEXT}")


def rank_name(name: str) -> str:
    """Return the name that decides the place of an image in the split and in the order.

    It ends in `.npy` for the formats that earlier versions did not read, so that the images of a
    folder are split as their copies in `.npy` files are.
    """
    name, *row = name.rsplit("#", 1) if suffix_of(name) == "" else (name,)
    suffix = suffix_of(name)
    name = name if suffix in ("", *_OWN_RANK) else f"{name[: -len(suffix)]}.npy"
    return "#".join([name, *row])


def mixed_text(names: Iterable[str]) -> str:
    """Return how many files of each suffix there are, or nothing if all have one suffix."""
    counts = Counter(map(suffix_of, set(names)))
    texts = [counted(counts[suffix], f"{suffix} file") for suffix in sorted(counts)]
    return f"{', '.join(texts)} read" if len(texts) > 1 else ""


def suffix_of(name: str) -> str:
    """Return the image suffix of a name, the longest one that fits."""
    return max((end for end in IMAGE_SUFFIXES if name.lower().endswith(end)), key=len, default="")
