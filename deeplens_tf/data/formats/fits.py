"""A reader of FITS images that checks every size before it allocates memory.

Images are read here. Those compressed in tiles are decompressed by astropy, which is imported only
for them.
"""

import math
from pathlib import Path
from typing import IO

import numpy as np

from deeplens_tf.data.formats.fits_headers import Hdu, read_hdus
from deeplens_tf.data.formats.gzip_stream import GzipStream
from deeplens_tf.data.formats.wcs import pixel_scale_arcsec
from deeplens_tf.data.npy import MAX_VALUES, Stream, read_exactly
from deeplens_tf.errors import UnusableFile

_GZIP = b"\x1f\x8b"


def read_fits(path: Path, choice: int | str | None = None) -> np.ndarray:
    """Read an image of a FITS file, packed by gzip or not.

    Values are BZERO + BSCALE x stored value, BLANK is NaN (FITS Standard 4.0, section 4.4.2). If
    there are more than two axes, those of length 1 are left out.

    Args:
        path: a regular file.
        choice: number, from 0, or name (EXTNAME) of the HDU; several of them, separated by commas,
            for HDUs with a band each; None for the first one with an image of two or three axes.

    Returns:
        Integers or floating point numbers in native byte order, the first axis varies slowest. It
        counts the bands where several HDUs are chosen.

    Raises:
        UnusableFile: no such HDU, no image in it, one beyond the bounds, or bands of different
            sizes.
    """
    choices = _choices(choice)
    if len(choices) == 1:
        return _read_hdu(path, choices[0])
    images: list[np.ndarray] = []
    for each in choices:
        images.append(_read_hdu(path, each))
        if images[-1].ndim != 2 or images[-1].shape != images[0].shape:
            shapes = f"{images[0].shape} and {images[-1].shape}"
            raise UnusableFile(f"HDUs {choices[0]} and {each}: shapes {shapes}, not of two bands")
        if sum(image.size for image in images) > MAX_VALUES:
            raise UnusableFile(f"bands of more than {MAX_VALUES} values together")
    return np.stack(images)


def _choices(choice: int | str | None) -> list[int | str | None]:
    if not isinstance(choice, str):
        return [choice]
    names = [name.strip() for name in choice.split(",")]
    return [int(name) if name.isdecimal() else name for name in names]


def _read_hdu(path: Path, choice: int | str | None) -> np.ndarray:
    with path.open("rb", buffering=0) as file:
        stream = _content(file)
        hdu = _chosen(stream, choice)
        count = math.prod(hdu.image_shape)
        if not count:
            raise UnusableFile("an image without values")
        if count > MAX_VALUES:
            raise UnusableFile(f"{count} values, at most {MAX_VALUES} are read")
        if not hdu.is_compressed:
            return _physical(_stored(stream, hdu), hdu).reshape(hdu.image_shape)
        from deeplens_tf.data.formats.tile_compression import read_tiles

        return _physical(read_tiles(stream, hdu), hdu).reshape(hdu.image_shape)


def read_scale(path: Path, choice: int | str | None = None) -> float | None:
    """Return the pixel scale in arcsec of an image, None if its header has none.

    Args:
        path: a file.
        choice: see `read_fits`.

    Raises:
        UnusableFile: no such HDU, or a damaged header.
    """
    with path.open("rb", buffering=0) as file:
        return pixel_scale_arcsec(_chosen(_content(file), _choices(choice)[0]))


def _content(file: IO[bytes]) -> Stream:
    start = file.read(len(_GZIP))
    file.seek(0)
    return GzipStream(file) if start == _GZIP else file


def _chosen(stream: Stream, choice: int | str | None) -> Hdu:
    """Return the HDU with the image; the stream is at the start of its data."""
    seen: list[str] = []
    for hdu in read_hdus(stream):
        if not hdu.number and hdu.values.get("SIMPLE") != "T":
            raise UnusableFile("not a FITS file")
        is_image = len(hdu.image_shape) in (2, 3)
        if choice is None and is_image:
            return hdu
        if choice == hdu.number or _is_name(choice, hdu.name):
            if is_image:
                return hdu
            raise UnusableFile(f"HDU {choice} is {_kind(hdu)}, not an image of 2 or 3 axes")
        seen.append(f"{hdu.number} {hdu.name}".rstrip() + f": {_kind(hdu)}")
    what = "no image of 2 or 3 axes" if choice is None else f"no HDU {choice}"
    raise UnusableFile(f"{what} in it; {'; '.join(seen[:20]) or 'not a FITS file'}"[:500])


def _is_name(choice: int | str | None, name: str) -> bool:
    return isinstance(choice, str) and bool(name) and choice.upper() == name.upper()


def _kind(hdu: Hdu) -> str:
    kind = hdu.text("XTENSION")
    if kind in ("BINTABLE", "TABLE") and not hdu.is_compressed:
        return "a table"
    if hdu.number and kind != "IMAGE" and not hdu.is_compressed:
        return f"of another kind, {kind[:20]!r}"
    return f"{len(hdu.image_shape)}-D" if hdu.image_shape else "empty"


def _stored(stream: Stream, hdu: Hdu) -> np.ndarray:
    """Return the values as they are stored, in native byte order."""
    kind = "f" if hdu.bits < 0 else "u" if hdu.bits == 8 else "i"
    dtype = np.dtype(f">{kind}{abs(hdu.bits) // 8}")
    data = read_exactly(stream, math.prod(hdu.image_shape) * dtype.itemsize)
    array = np.frombuffer(data, dtype)
    if not dtype.isnative:  # in place: a copy of a large image would break the bound on memory
        array = array.byteswap(inplace=True).view(dtype.newbyteorder())
    return array


def _physical(array: np.ndarray, hdu: Hdu) -> np.ndarray:
    """Return the values that the stored ones stand for."""
    scale, zero = hdu.number_of("BSCALE", 1), hdu.number_of("BZERO", 0)
    blank = _blank(hdu) if array.dtype.kind != "f" else None
    if (scale, zero, blank) == (1, 0, None):
        return array
    top = 1 << (array.dtype.itemsize * 8 - 1)
    if (scale, zero, blank) == (1, top, None) and array.dtype.kind == "i":  # unsigned integers
        unsigned = array.view(f"u{array.dtype.itemsize}")
        unsigned ^= unsigned.dtype.type(top)
        return unsigned
    single = array.dtype.itemsize <= 2 or array.dtype == np.float32
    values = array.astype(np.float32 if single else np.float64)
    np.multiply(values, scale, out=values)
    np.add(values, zero, out=values)
    if blank is not None:
        values[array == blank] = np.nan
    return values


def _blank(hdu: Hdu) -> int | None:
    keys = [key for key in ("BLANK", "ZBLANK") if key in hdu.values]
    return hdu.whole(keys[0]) if keys else None
