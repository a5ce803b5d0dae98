"""The headers of a FITS file, read within bounds before any pixel is.

The format: FITS Standard 4.0, https://fits.gsfc.nasa.gov/fits_standard.html. astropy reads a header
to its end, however long it is, and allocates what it declares.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from deeplens_tf.data.npy import READ_CHUNK_BYTES, Stream
from deeplens_tf.errors import UnusableFile

BLOCK_BYTES = 2880
CARD_BYTES = 80
MAX_FITS_HEADER_BYTES = 400 * BLOCK_BYTES
MAX_HDUS = 1000
MAX_AXES = 8

_BITS = (8, 16, 32, 64, -32, -64)
_CARD = re.compile(rb"([A-Z0-9_-]+) *= +('(?:[^']|'')*'|[^/ ][^/]*)")
_WANTED = re.compile(
    rb"SIMPLE|XTENSION|BITPIX|NAXIS\d?|[PG]COUNT|GROUPS|EXTNAME|BSCALE|BZERO|BLANK|THEAP"
    rb"|TFIELDS|T(?:TYPE|FORM|UNIT|NULL|SCAL|ZERO)\d{1,3}"
    rb"|Z(?:IMAGE|CMPTYPE|BITPIX|BLANK|NAXIS\d?|TILE\d|NAME\d|VAL\d)"
    rb"|C(?:TYPE|UNIT|DELT)[12]|(?:CD|PC)[12]_[12]"
)


@dataclass(frozen=True)
class Hdu:
    """The header of one HDU of a file, which precedes its data.

    Attributes:
        number: of the HDU, from 0.
        values: of the keywords that matter, as they are written.
        header: the bytes of the whole header.
    """

    number: int
    values: dict[str, str]
    header: bytes

    def whole(self, key: str, default: int | None = None) -> int:
        """Return the whole number of a keyword.

        Raises:
            UnusableFile: it has another value, or none and there is no default.
        """
        text = self.values.get(key, "" if default is None else str(default))
        if not re.fullmatch(r"[+-]?\d{1,19}", text):
            raise UnusableFile(f"HDU {self.number}: {key} is {text[:20]!r}, not a whole number")
        return int(text)

    def number_of(self, key: str, default: float) -> float:
        """Return the real number of a keyword.

        Raises:
            UnusableFile: it has another value.
        """
        text = self.values.get(key, str(default)).upper().replace("D", "E")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UnusableFile(f"HDU {self.number}: {key} is {text[:20]!r}, not a number")
        return number

    def text(self, key: str) -> str:
        """Return the text of a keyword, or nothing."""
        value = self.values.get(key, "")
        return value[1:-1].replace("''", "'").rstrip() if value.startswith("'") else ""

    @property
    def name(self) -> str:
        """EXTNAME, or PRIMARY for a first HDU without it."""
        return self.text("EXTNAME") or ("" if self.number else "PRIMARY")

    @property
    def is_compressed(self) -> bool:
        """Whether it is a table that contains an image compressed in tiles."""
        return self.text("XTENSION") == "BINTABLE" and self.values.get("ZIMAGE") == "T"

    @cached_property
    def bits(self) -> int:
        """Bits a stored value, negative for floating point numbers."""
        bits = self.whole("BITPIX")
        if bits not in _BITS:
            raise UnusableFile(f"HDU {self.number}: BITPIX is {bits}")
        return bits

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored array or table, the first axis varies slowest."""
        return self.axes("NAXIS")

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the image, without axes of length 1 if there are more than two; or empty."""
        is_image = not self.number or self.text("XTENSION") == "IMAGE"
        if not (is_image or self.is_compressed):
            return ()
        shape = self.axes("ZNAXIS") if self.is_compressed else self.shape
        return tuple(side for side in shape if side != 1) if len(shape) > 2 else shape

    @property
    def data_bytes(self) -> int:
        """Bytes of the data without what fills the last block."""
        if self.values.get("GROUPS") == "T":
            raise UnusableFile(f"HDU {self.number}: random groups, which are not read")
        count = math.prod(self.shape) if self.shape else 0
        extra, groups = self.whole("PCOUNT", 0), self.whole("GCOUNT", 1)
        if extra < 0 or groups != 1:
            raise UnusableFile(f"HDU {self.number}: PCOUNT {extra}, GCOUNT {groups}")
        return abs(self.bits) // 8 * (extra + count)

    def axes(self, key: str) -> tuple[int, ...]:
        """Return the lengths `<key>n`, the last one first, as NumPy orders them."""
        count = self.whole(key)
        if not 0 <= count <= MAX_AXES:
            raise UnusableFile(f"HDU {self.number}: {count} axes, at most {MAX_AXES} are read")
        sides = tuple(self.whole(f"{key}{axis}") for axis in range(count, 0, -1))
        if any(side < 0 for side in sides):
            raise UnusableFile(f"HDU {self.number}: an axis of length {min(sides)}")
        return sides


def read_hdus(stream: Stream) -> Iterator[Hdu]:
    """Yield the HDUs of a file; when one is yielded, the stream is at the start of its data.

    The caller may read the data of an HDU if it takes no further one.

    Raises:
        UnusableFile: a header that is damaged or larger than is read.
    """
    for number in range(MAX_HDUS):
        header = _read_header(stream, number)
        if not header:
            return
        hdu = Hdu(number, _values(header), header)
        yield hdu
        if not _skip(stream, -(-hdu.data_bytes // BLOCK_BYTES) * BLOCK_BYTES):
            return
    raise UnusableFile(f"more than {MAX_HDUS} HDUs")


def _read_header(stream: Stream, number: int) -> bytes:
    """Return a header with the block that contains its END; nothing at the end of the file."""
    header = b""
    while len(header) < MAX_FITS_HEADER_BYTES:
        block = _read_block(stream)
        if not number and not header and not block.startswith(b"SIMPLE  ="):
            raise UnusableFile("not a FITS file")
        # What follows the last HDU is no part of the file, by the standard.
        if number and not header and not block.startswith(b"XTENSION"):
            return b""
        if len(block) < BLOCK_BYTES:
            raise UnusableFile("truncated inside its header")
        header += block
        if any(block[at : at + 8] == b"END     " for at in range(0, BLOCK_BYTES, CARD_BYTES)):
            return header
    raise UnusableFile(f"a header of more than {MAX_FITS_HEADER_BYTES} bytes")


def _read_block(stream: Stream) -> bytes:
    block = b""
    while len(block) < BLOCK_BYTES and (part := stream.read(BLOCK_BYTES - len(block))):
        block += part
    return block


def _values(header: bytes) -> dict[str, str]:
    values: dict[str, str] = {}
    for at in range(0, len(header), CARD_BYTES):
        key = header[at : at + 8].rstrip()
        if not _WANTED.fullmatch(key):
            continue
        if card := _CARD.match(header[at : at + CARD_BYTES]):
            values.setdefault(key.decode(), card[2].decode("latin-1").strip())
    return values


def _skip(stream: Stream, count: int) -> bool:
    """Go forwards; return whether there is as much."""
    while count > 0 and (chunk := stream.read(min(READ_CHUNK_BYTES, count))):
        count -= len(chunk)
    return count <= 0
