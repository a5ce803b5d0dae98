"""The `.npy` format, read with every size checked before memory is taken.

NumPy's own reader evaluates the header as Python and hands object arrays to `pickle`; a file from a
stranger is given neither. The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np

from deeplens_tf.data.pickles import PickledArray, unpickle_pair
from deeplens_tf.errors import UnusableFile

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096
MAX_VALUES = 2**24  # a square of 4096 pixels; reading one image then takes less than 400 MB
MAX_ARRAY_BYTES = 8 * MAX_VALUES + MAX_HEADER_BYTES
START_BYTES = 64 << 10
PIECE_BYTES = 1 << 20

_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # version of the format -> width of the header's length
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d, ]*)\)""")
_REAL = re.compile(r"[<>=|]?(f[248]|[iu][1248])")
_NOT_REAL = {
    "c": "complex numbers",
    "b": "true/false values",
    "?": "true/false values",
    "U": "text values",
    "S": "text values",
    "M": "dates",
    "m": "time spans",
    "O": "an object array",
    "V": "raw bytes",
}


@dataclass(frozen=True)
class Layout:
    """What a header announces: kind of value, shape, order of the axes in memory."""

    descr: str
    shape: tuple[int, ...]
    fortran_order: bool = False

    @property
    def is_object(self) -> bool:
        """Whether the data is a pickle."""
        return self.descr.endswith("O")


def read_npy(stream: BinaryIO, size: int) -> tuple[np.ndarray, float | None]:
    """Read a plain array, or the published pair of an image and its mass.

    Args:
        stream: open at the first byte.
        size: bytes that the stream holds.

    Returns:
        The array as it is stored, and its mass in eV where it is a pair.

    Raises:
        UnusableFile: the bytes are not such an array, or not what the header announces.
    """
    start = stream.read(START_BYTES)
    layout, offset = split_header(start)
    if layout.is_object:
        return _read_pair(layout, start[offset:], stream, size - offset)
    check_size(layout, size - offset)
    return make_array(layout, _read_on(start[offset:], stream, size - offset)), None


def split_header(start: bytes) -> tuple[Layout, int]:
    """Return the layout that a file's first bytes announce, and where its data begins.

    Raises:
        UnusableFile: the bytes do not open a `.npy` file.
    """
    if not start.startswith(MAGIC):
        raise UnusableFile(_name_content(start))
    width = _LENGTH_BYTES.get(int.from_bytes(start[6:7], "little"))
    if width is None:
        raise UnusableFile("an unknown version of the .npy format")
    begin = 8 + width
    end = begin + int.from_bytes(start[8:begin], "little")
    if end - begin > MAX_HEADER_BYTES:
        raise UnusableFile(f"a header of {byte_text(end - begin)}, at most 4 kB are read")
    if len(start) < end:
        raise UnusableFile("truncated inside its header")
    return _parse_header(start[begin:end]), end


@lru_cache(maxsize=64)  # a folder of images repeats one header
def _parse_header(header: bytes) -> Layout:
    text = header.decode("latin-1")
    descr, order, shape = (pattern.search(text) for pattern in (_DESCR, _ORDER, _SHAPE))
    if not (descr and order and shape):
        raise UnusableFile("a header that announces no plain array")
    sides = tuple(int(side) for side in shape[1].replace(",", " ").split())
    return Layout(descr[1], sides, order[1] == "True")


def check_size(layout: Layout, held: int) -> None:
    """Refuse a layout that does not fill exactly the bytes that are held.

    Raises:
        UnusableFile: of another kind than real numbers, of another size, empty, or of more axes
            or values than any array read here.
    """
    if len(layout.shape) > 3:
        raise UnusableFile(f"{len(layout.shape)}-D, an image has 2 or 3 dimensions")
    if 0 in layout.shape:
        raise UnusableFile("an array without values")
    announced = math.prod(layout.shape) * real_dtype(layout.descr).itemsize
    if announced != held:
        raise UnusableFile(
            f"the header announces {byte_text(announced)}, the file holds {byte_text(held)}"
        )
    if math.prod(layout.shape) > MAX_VALUES:
        raise UnusableFile(f"{math.prod(layout.shape)} values, at most {MAX_VALUES} are read")


def make_array(layout: Layout, data: bytes | bytearray) -> np.ndarray:
    """Return the array of `layout.shape` that `data` holds, checked by `check_size` before."""
    dtype = real_dtype(layout.descr)
    order = "F" if layout.fortran_order else "C"
    array = np.frombuffer(data, dtype).reshape(layout.shape, order=order)
    return array.astype(dtype.newbyteorder("="), copy=not array.flags.writeable)


def real_dtype(descr: str) -> np.dtype:
    """Return the type that a description such as `<f8` names.

    Raises:
        UnusableFile: not an integer or a floating-point number of at most 8 bytes.
    """
    if _REAL.fullmatch(descr):
        return np.dtype(descr)
    kind = descr.lstrip("<>=|")[:1]
    raise UnusableFile(_NOT_REAL.get(kind, f"values of an unsupported kind, {descr[:20]!r}"))


def byte_text(count: int) -> str:
    """Return a number of bytes as people say it: `200 bytes`, `8.0 TB`."""
    if count >= 10**18:  # a hostile count may be beyond the range of a float
        return "over 1 EB"
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count} bytes"


def _read_pair(
    layout: Layout, start: bytes, stream: BinaryIO, size: int
) -> tuple[np.ndarray, float | None]:
    if layout.shape != (2,):
        raise UnusableFile(
            f"an object array of shape {layout.shape}; of these only [image, mass_ev] is read"
        )
    if size > MAX_ARRAY_BYTES:
        limit = byte_text(MAX_ARRAY_BYTES)
        raise UnusableFile(f"a pickle of {byte_text(size)}, at most {limit} are read")
    image, mass = unpickle_pair(start + stream.read(size))
    return _pickled_array(image), _pickled_number(mass)


def _pickled_array(value: PickledArray) -> np.ndarray:
    layout = Layout(value.descr, value.shape, value.fortran_order)
    check_size(layout, len(value.data))
    return make_array(layout, value.data)


def _pickled_number(value: float | PickledArray) -> float:
    if isinstance(value, float):
        return value
    array = _pickled_array(value)
    if array.size != 1:
        raise UnusableFile("a pickled mass that is not one number")
    return float(array.item())


def _read_on(start: bytes, stream: BinaryIO, count: int) -> bytearray:
    """Return `count` bytes, of which `start` is read already, in memory taken once."""
    data = bytearray(count)
    data[: len(start)] = start
    place = len(start)
    # In pieces: an archive's member would read all of it into a second place first.
    while place < count and (
        read := stream.readinto(memoryview(data)[place : place + PIECE_BYTES])
    ):
        place += read
    if place < count:
        raise UnusableFile("truncated")
    return data


def _name_content(start: bytes) -> str:
    if not start:
        return "empty file"
    try:
        text = start[:256].decode("ascii")
    except UnicodeDecodeError:
        return "not a NumPy array"
    return "text, not a NumPy array" if text.isprintable() or "\n" in text else "not a NumPy array"
