"""A reader of PNG, JPEG and TIFF pictures that checks every size before Pillow decodes them.

Values are those that the file stores, 8 or 16 bits or floating point: no gamma, no colour profile
and no EXIF orientation is applied.
"""

import contextlib
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from deeplens_tf.data.npy import MAX_ARRAY_BYTES, MAX_VALUES, byte_text
from deeplens_tf.errors import UnusableFile

MAX_TAGS = 1000
MAX_TAG_BYTES = 1 << 18  # of numbers, which Pillow unpacks one by one
MAX_TEXT_TAG_BYTES = 1 << 22  # of bytes and texts, which it keeps as they are

# The modes of Pillow that are read, with the number of their bands.
_BANDS = {"L": 1, "I;16": 1, "I;16B": 1, "I": 1, "F": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_REFUSED = {
    "P": "a palette of colours: save the picture as grey or RGB",
    "1": "true/false values instead of numbers",
    "CMYK": "a picture in CMYK: save it as grey or RGB",
}
_TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BYTE_TYPES = (1, 2, 6, 7)
_PHOTOMETRIC, _SAMPLE_FORMAT, _UNSIGNED, _WHITE_IS_ZERO = 262, 339, 1, 0


def read_picture(path: Path, size: int) -> np.ndarray:
    """Read a picture: (height, width), or (height, width, bands) with an alpha channel as the last.

    Args:
        path: a regular file, a picture by its first bytes.
        size: number of bytes in the file.

    Raises:
        UnusableFile: damaged, of several frames, or of pixels that are not read as they are stored.
    """
    if size > MAX_ARRAY_BYTES:
        limit = byte_text(MAX_ARRAY_BYTES)
        raise UnusableFile(f"a picture of {byte_text(size)}, at most {limit} are read")
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = stream.read(8)
        if start[:2] in (b"II", b"MM"):
            _check_tags(stream, start)
        stream.seek(0)
        try:
            return _pixels(_opened(stream, start))
        except UnusableFile:
            raise
        except Exception as error:  # Pillow raises almost any class for a damaged picture
            raise UnusableFile(f"a damaged picture: {error}"[:200]) from error


def _opened(stream: IO[bytes], start: bytes) -> ImageFile.ImageFile:
    # Without `Image.open`, which tries the plugins of other formats.
    if start.startswith(b"\x89PNG"):
        return PngImagePlugin.PngImageFile(stream)
    if start.startswith(b"\xff\xd8"):
        return JpegImagePlugin.JpegImageFile(stream)
    return TiffImagePlugin.TiffImageFile(stream)


def _pixels(image: ImageFile.ImageFile) -> np.ndarray:
    _check_kind(image)
    count = image.width * image.height * _BANDS[image.mode]
    if count > MAX_VALUES:
        raise UnusableFile(f"{count} values, at most {MAX_VALUES} are read")
    with (
        _quiet()
        if image.tile and image.tile[0].codec_name == "libtiff"
        else contextlib.nullcontext()
    ):
        array = np.array(image)
    if image.mode == "I" and _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED:
        array = array.view(np.uint32)  # Pillow keeps the bits of unsigned integers
    if image.mode in ("LA", "RGBA") and np.ptp(array[..., -1]):
        raise UnusableFile("an alpha channel that varies: save the picture without transparency")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what libtiff prints to standard error, beside the error that it returns."""
    try:
        kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed, or no more files may be opened
        yield
        return
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _check_kind(image: ImageFile.ImageFile) -> None:
    if getattr(image, "is_animated", False) or "mpoffset" in image.info:
        raise UnusableFile("several frames or pages: save each image in a file of its own")
    if image.mode not in _BANDS:
        raise UnusableFile(_REFUSED.get(image.mode, f"pixels of the kind {image.mode!r:.20}"))
    raw = str(image.tile[0].args) if image.tile else ""
    if _BANDS[image.mode] > 1 and ";16" in raw:
        raise UnusableFile(
            "16 bits in each of several bands, of which Pillow reads 8: save it as .npy or FITS"
        )
    if _tag(image, _PHOTOMETRIC, None) == _WHITE_IS_ZERO:
        raise UnusableFile("a negative, in which white is 0: save it with black as 0")


def _tag(image: ImageFile.ImageFile, tag: int, default: int | None) -> int | None:
    """Return the first value of a TIFF tag, None for another format."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    value = image.tag_v2.get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _check_tags(stream: IO[bytes], start: bytes) -> None:
    """Refuse a TIFF whose tags are larger than those of an image, before they are unpacked."""
    order = "<" if start[:2] == b"II" else ">"
    if b"+" in start[2:4]:
        raise UnusableFile("a BigTIFF, which is not read: save it as .npy, FITS or TIFF")
    try:
        stream.seek(struct.unpack(f"{order}L", start[4:8])[0])
        (count,) = struct.unpack(f"{order}H", stream.read(2))
        if count > MAX_TAGS:
            raise UnusableFile(f"a TIFF of {count} tags, at most {MAX_TAGS} are read")
        entries = list(struct.iter_unpack(f"{order}HHL4x", stream.read(12 * count)))
    except struct.error as error:
        raise UnusableFile("a damaged picture: truncated tags") from error
    for tag, kind, length in entries:
        most = MAX_TEXT_TAG_BYTES if kind in _BYTE_TYPES else MAX_TAG_BYTES
        if length * _TAG_BYTES.get(kind, 1) > most:
            raise UnusableFile(f"a TIFF with a tag {tag} of {length} values")
