"""FITS images compressed in tiles (FITS Standard 4.0, section 10), decompressed by astropy.

astropy gets the one HDU, in memory, after its table has been checked: what a tile declares, and
what it unpacks to, is bounded before.
"""

import io
import math
import re
import warnings
import zlib

import numpy as np
from astropy.io import fits

from deeplens_tf.data.formats.fits_headers import BLOCK_BYTES, CARD_BYTES, Hdu
from deeplens_tf.data.npy import READ_CHUNK_BYTES, Stream, byte_text, read_exactly
from deeplens_tf.errors import UnusableFile

ALGORITHMS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2")
MAX_TILES = 1 << 16
MAX_TILE_VALUES = 1 << 21
MAX_COMPRESSED_BYTES = 1 << 26
_RICE = {"BLOCKSIZE": (16, 32), "BYTEPIX": (1, 2, 4)}
_FORM = re.compile(r"1?(?:([PQ])([BIJED])(?:\(\d*\))?|([DEJ]))")
_ITEM_BYTES = {"B": 1, "I": 2, "J": 4, "E": 4, "D": 8}
_PRIMARY = b"".join(  # an empty first HDU
    card.ljust(CARD_BYTES)
    for card in (
        b"SIMPLE  =                    T",
        b"BITPIX  =                    8",
        b"NAXIS   =                    0",
        b"END",
    )
).ljust(BLOCK_BYTES)


def read_tiles(stream: Stream, hdu: Hdu) -> np.ndarray:
    """Read the image of an HDU, as it was stored before its compression.

    Args:
        stream: at the start of the HDU's data.
        hdu: a table with an image whose number of values is within bounds.

    Raises:
        UnusableFile: compressed in another way, beyond a bound, or damaged.
    """
    _check_header(hdu)
    size = hdu.data_bytes
    if size > MAX_COMPRESSED_BYTES:
        limit = byte_text(MAX_COMPRESSED_BYTES)
        raise UnusableFile(f"a compressed image of {byte_text(size)}, at most {limit} are read")
    # The only copy: astropy makes another of the data, beside the image itself.
    memory = io.BytesIO()
    memory.write(_PRIMARY + hdu.header)
    start = memory.tell()
    for count in (READ_CHUNK_BYTES,) * (size // READ_CHUNK_BYTES) + (size % READ_CHUNK_BYTES,):
        memory.write(read_exactly(stream, count))
    with memory.getbuffer() as data:
        _check_tiles(hdu, data[start:])
    memory.write(bytes(-size % BLOCK_BYTES))
    return _decompressed(hdu, memory)


def _decompressed(hdu: Hdu, memory: io.BytesIO) -> np.ndarray:
    memory.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(memory, memmap=False, do_not_scale_image_data=True) as hdus:
                array = np.asarray(hdus[1].data)
    except Exception as error:  # astropy raises almost any class for a damaged table
        raise UnusableFile("a damaged compressed image") from error
    if array.shape != hdu.axes("ZNAXIS") or array.dtype.kind not in "iuf":
        raise UnusableFile("a damaged compressed image")
    return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(-1)


def _check_header(hdu: Hdu) -> None:
    name = hdu.text("ZCMPTYPE")
    if name not in ALGORITHMS:
        known = "RICE_1, GZIP_1 and GZIP_2 are read"
        raise UnusableFile(f"compressed by {name[:20]!r}, {known}")
    for key, value in _parameters(hdu).items():
        if value not in _RICE.get(key, (value,)):
            raise UnusableFile(f"compressed with {key} {value}")
    sides, tiles = hdu.axes("ZNAXIS"), _tile_shape(hdu)
    if any(not 0 < tile <= side for side, tile in zip(sides, tiles, strict=True)):
        raise UnusableFile(f"compressed in tiles of {tiles} of an image of {sides}")
    if math.prod(tiles) > MAX_TILE_VALUES:
        limit = f"at most {MAX_TILE_VALUES} are read"
        raise UnusableFile(f"compressed in tiles of {math.prod(tiles)} values, {limit}")
    count = math.prod(-(-side // tile) for side, tile in zip(sides, tiles, strict=True))
    if count > MAX_TILES or hdu.shape[:1] != (count,) or len(hdu.shape) != 2 or hdu.bits != 8:
        raise UnusableFile(f"a table that is not of {count} tiles, at most {MAX_TILES} are read")


def _parameters(hdu: Hdu) -> dict[str, int]:
    names = [key for key in hdu.values if re.fullmatch(r"ZNAME\d", key)]
    found = {hdu.text(key).upper(): key.replace("NAME", "VAL") for key in names}
    return {name: hdu.whole(key) for name, key in found.items() if name in _RICE}


def _tile_shape(hdu: Hdu) -> tuple[int, ...]:
    """Return the shape of a tile, without a declared one a row of the image."""
    sides = hdu.axes("ZNAXIS")
    whole_rows = [1] * (len(sides) - 1) + [sides[-1]]
    keys = [f"ZTILE{axis}" for axis in range(len(sides), 0, -1)]
    return tuple(hdu.whole(key, row) for key, row in zip(keys, whole_rows, strict=True))


def _check_tiles(hdu: Hdu, data: memoryview) -> None:
    """Refuse a tile that lies outside of the data, or that unpacks to more than it declares."""
    rows, row_bytes = hdu.shape
    heap = hdu.whole("THEAP", rows * row_bytes)
    if not rows * row_bytes <= heap <= len(data):
        raise UnusableFile("a damaged compressed image")
    table = np.frombuffer(data, _row_dtype(hdu, row_bytes), rows)
    most = math.prod(_tile_shape(hdu)) * 8
    for name, (kind, item_bytes) in _descriptors(hdu).items():
        for count, offset in table[name].tolist():
            start, end = heap + offset, heap + offset + count * item_bytes
            if count < 0 or offset < 0 or end > len(data):
                raise UnusableFile("a compressed image with a tile outside of its data")
            if kind == "GZIP" and count:
                _check_gzip(data[start:end], most)


def _check_gzip(tile: memoryview, most: int) -> None:
    inflate = zlib.decompressobj(wbits=31)
    try:
        inflate.decompress(tile, most + 1)
    except zlib.error as error:
        raise UnusableFile("a damaged compressed image") from error
    # astropy would unpack a second gzip member in the tile too.
    if not inflate.eof or inflate.unused_data.strip(b"\0"):
        raise UnusableFile("a compressed image with a tile that unpacks to more than it declares")


def _columns(hdu: Hdu) -> dict[str, re.Match[str]]:
    found: dict[str, re.Match[str]] = {}
    for column in range(1, hdu.whole("TFIELDS") + 1):
        name, form = (hdu.text(f"{key}{column}") for key in ("TTYPE", "TFORM"))
        match = _FORM.fullmatch(form)
        if column > 9 or match is None or not name or name in found:
            raise UnusableFile(f"a compressed image with a column {name[:20]!r} of {form[:20]!r}")
        found[name] = match
    return found


def _row_dtype(hdu: Hdu, row_bytes: int) -> np.dtype:
    widths = {"P": (">i4", 2), "Q": (">i8", 2), "D": (">f8", 1), "E": (">f4", 1), "J": (">i4", 1)}
    columns = [(name, *widths[form[1] or form[3]]) for name, form in _columns(hdu).items()]
    dtype = np.dtype(columns)
    if dtype.itemsize != row_bytes or "COMPRESSED_DATA" not in (dtype.names or ()):
        raise UnusableFile("a compressed image whose columns do not fill its rows")
    return dtype


def _descriptors(hdu: Hdu) -> dict[str, tuple[str, int]]:
    """Return of each column of tiles how they are packed, and the bytes of an item."""
    gzip = ["GZIP_COMPRESSED_DATA"]
    gzip += ["COMPRESSED_DATA"] * hdu.text("ZCMPTYPE").startswith("GZIP")
    return {
        name: ("GZIP" if name in gzip else "", _ITEM_BYTES[form[2]])
        for name, form in _columns(hdu).items()
        if form[1]
    }
