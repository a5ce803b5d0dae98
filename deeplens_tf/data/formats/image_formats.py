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
from deeplens_tf.terminal import counted

FIRST_BYTES = 32  # of a file, enough to know its format
READ_TEXT = "only .npy, .npz, FITS, PNG, JPEG and TIFF files are read"


@dataclass(frozen=True)
class Selection:
    """Which part of a file is its image.

    Attributes:
        fits_hdu: number, from 0, or name of the HDU; None for the first one that is an image.
    """

    fits_hdu: int | str | None = None


Read = tuple[np.ndarray, float | None]  # the array as it is stored, and its mass in eV or None
Reader = Callable[[Path, int, Selection], Read]


@dataclass(frozen=True)
class ImageFormat:
    """A format of image files.

    Attributes:
        suffixes: of its files, in lower case.
        begins: the first bytes of a file, one of these.
        read: from a path, the size of the file and a selection, to an array of real numbers.
    """

    suffixes: tuple[str, ...]
    begins: tuple[bytes, ...]
    read: Reader


def _read_npy(path: Path, size: int, selection: Selection) -> Read:
    with path.open("rb", buffering=0) as stream:
        return read_npy(stream, size)


def _read_npz(path: Path, size: int, selection: Selection) -> Read:
    return read_npz(path)


def _read_fits(path: Path, size: int, selection: Selection) -> Read:
    from deeplens_tf.data.formats.fits import read_fits

    return read_fits(path, selection.fits_hdu), None


def _read_picture(path: Path, size: int, selection: Selection) -> Read:
    from deeplens_tf.data.formats.pictures import read_picture

    return read_picture(path, size), None


# `.fz` is the suffix of FITS files whose images are compressed in tiles.
_FITS = tuple(f".{name}{end}" for name in ("fits", "fit", "fts") for end in ("", ".gz", ".fz"))
FORMATS = (
    ImageFormat((".npy",), (MAGIC,), _read_npy),
    ImageFormat((".npz",), (b"PK\3\4", b"PK\5\6"), _read_npz),
    ImageFormat(_FITS, (b"SIMPLE  =", b"\x1f\x8b"), _read_fits),
    ImageFormat((".png",), (b"\x89PNG\r\n\x1a\n",), _read_picture),
    ImageFormat((".jpg", ".jpeg"), (b"\xff\xd8\xff",), _read_picture),
    ImageFormat((".tif", ".tiff"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _read_picture),
)
IMAGE_SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
_OWN_RANK = (".npy", ".npz")  # which earlier versions read


def is_image_name(name: str) -> bool:
    """Return whether a file is read as an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


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
    suffix = _suffix(name)
    return name if suffix in ("", *_OWN_RANK) else f"{name[: -len(suffix)]}.npy"


def mixed_text(names: Iterable[str]) -> str:
    """Return how many files of each suffix there are, or nothing if all have one suffix."""
    counts = Counter(map(_suffix, names))
    texts = [counted(counts[suffix], f"{suffix} file") for suffix in sorted(counts)]
    return f"{', '.join(texts)} read" if len(texts) > 1 else ""


def _suffix(name: str) -> str:
    """Return the image suffix of a name, the longest one that fits."""
    return max((end for end in IMAGE_SUFFIXES if name.lower().endswith(end)), key=len, default="")
