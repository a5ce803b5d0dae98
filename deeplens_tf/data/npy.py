"""A reader of the `.npy` format that checks every size before it allocates memory.

NumPy's own reader evaluates the header as Python and passes object arrays to `pickle`, which is not
safe for untrusted files. The format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Literal, Protocol

import numpy as np

from deeplens_tf.config import MAX_UNNAMED_BANDS
from deeplens_tf.data.image_axes import dimensions_text, stack_text
from deeplens_tf.data.pickles import PickledArray, unpickle_pair
from deeplens_tf.errors import UnusableFile

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096
MAX_VALUES = 2**24  # 4096 x 4096; reading one image then takes less than 400 MB of memory
MAX_ARRAY_BYTES = 8 * MAX_VALUES + MAX_HEADER_BYTES
FIRST_READ_BYTES = 64 << 10
READ_CHUNK_BYTES = 1 << 20

_HEADER_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # format version -> width of the header's length
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
    "O": "objects",
    "V": "raw bytes",
}


class Stream(Protocol):
    """Bytes that are read forwards."""

    def read(self, count: int, /) -> bytes:
        """Return the next bytes, at most `count` of them; none at the end."""
        ...


@dataclass(frozen=True)
class Layout:
    """The array that a header declares: type of its values, shape, order of the axes in memory."""

    descr: str
    shape: tuple[int, ...]
    fortran_order: bool = False

    @property
    def is_object(self) -> bool:
        """Whether the data is a pickle."""
        return self.descr.endswith("O")


def read_npy(stream: IO[bytes], size: int) -> tuple[np.ndarray, float | None]:
    """Read a plain array, or the published pair of an image and its mass.

    Args:
        stream: open at the first byte.
        size: number of bytes in the stream.

    Returns:
        The array as it is stored, and its mass in eV if it is a pair.

    Raises:
        UnusableFile: the bytes are not such an array, or do not match the header.
    """
    start = stream.read(FIRST_READ_BYTES)
    layout, offset = split_header(start)
    if layout.is_object:
        return _read_pair(layout, start[offset:], stream, size - offset)
    check_size(layout, size - offset)
    begin = memoryview(start)[offset:]
    is_whole = len(begin) == size - offset
    return make_array(
        layout, begin if is_whole else read_exactly(stream, size - offset, begin)
    ), None


def split_header(start: bytes) -> tuple[Layout, int]:
    """Return the layout that a file's first bytes declare, and the offset of its data.

    Raises:
        UnusableFile: the bytes are not the beginning of a `.npy` file.
    """
    if not start.startswith(MAGIC):
        raise UnusableFile("not a NumPy array")
    width = _HEADER_LENGTH_BYTES.get(int.from_bytes(start[6:7], "little"))
    if width is None:
        raise UnusableFile("an unknown version of the .npy format")
    begin = 8 + width
    end = begin + int.from_bytes(start[8:begin], "little")
    if end - begin > MAX_HEADER_BYTES:
        raise UnusableFile(f"a header of {byte_text(end - begin)}, at most 4 kB are read")
    if len(start) < end:
        raise UnusableFile("truncated inside its header")
    return _parse_header(start[begin:end]), end


@lru_cache(maxsize=64)  # the images of a folder usually have equal headers
def _parse_header(header: bytes) -> Layout:
    text = header.decode("latin-1")
    descr, order, shape = (pattern.search(text) for pattern in (_DESCR, _ORDER, _SHAPE))
    if not (descr and order and shape):
        raise UnusableFile("the header declares no plain array")
    sides = tuple(int(side) for side in shape[1].replace(",", " ").split())
    return Layout(descr[1], sides, order[1] == "True")


def check_size(layout: Layout, data_bytes: int) -> None:
    """Refuse a layout that does not match the number of bytes of the data.

    Raises:
        UnusableFile: the values are not real numbers, the size differs, the array is empty, or it
            has more axes or values than any image.
    """
    if len(layout.shape) > 4:
        raise UnusableFile(dimensions_text(layout.shape))
    if 0 in layout.shape:
        raise UnusableFile("an array without values")
    count = math.prod(layout.shape)
    declared = count * real_dtype(layout.descr).itemsize
    if declared != data_bytes:
        raise UnusableFile(
            f"the header declares {byte_text(declared)}, the file holds {byte_text(data_bytes)}"
        )
    if len(layout.shape) == 4:
        raise UnusableFile(dimensions_text(layout.shape))
    if count > MAX_VALUES:
        is_stack = len(layout.shape) == 3 and min(layout.shape) > MAX_UNNAMED_BANDS
        hint = f"; {stack_text(layout.shape)}" if is_stack else ""
        raise UnusableFile(f"{count} values, at most {MAX_VALUES} are read{hint}")


def make_array(layout: Layout, data: bytes | bytearray | memoryview) -> np.ndarray:
    """Return `data` as the array of a layout that `check_size` has accepted."""
    dtype = real_dtype(layout.descr)
    order: Literal["F", "C"] = "F" if layout.fortran_order else "C"
    array = np.frombuffer(data, dtype).reshape(layout.shape, order=order)
    return array.astype(dtype.newbyteorder("="), copy=not array.flags.writeable)


@lru_cache(maxsize=64)
def real_dtype(descr: str) -> np.dtype:
    """Return the type that a header's text describes.

    Raises:
        UnusableFile: it is not an integer or floating-point number of at most 8 bytes.
    """
    if _REAL.fullmatch(descr):
        return np.dtype(descr)
    kind = _NOT_REAL.get(descr.lstrip("<>=|")[:1], f"values of type {descr[:20]!r}")
    raise UnusableFile(f"{kind} instead of real numbers of up to 64 bits")


def byte_text(count: int) -> str:
    """Return a number of bytes in a readable unit: `200 bytes`, `8.0 TB`."""
    if count >= 10**18:  # a hostile count may be beyond the range of a float
        return "over 1 EB"
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count} bytes"


def _read_pair(
    layout: Layout, start: bytes, stream: IO[bytes], size: int
) -> tuple[np.ndarray, float | None]:
    if layout.shape != (2,):
        is_list = len(layout.shape) == 1 and layout.shape[0] > 2
        hint = "; if it holds several images, save each in a file of its own" if is_list else ""
        raise UnusableFile(
            f"an object array of shape {layout.shape}, the only one that is read is "
            f"[image, mass_ev]{hint}"
        )
    if size > MAX_ARRAY_BYTES:
        limit = byte_text(MAX_ARRAY_BYTES)
        raise UnusableFile(f"a pickle of {byte_text(size)}, at most {limit} are read")
    if len(start) < size:
        start += stream.read(size - len(start))
    image, mass = unpickle_pair(start)
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


def read_exactly(stream: Stream, count: int, start: bytes | memoryview = b"") -> bytearray:
    """Return `count` bytes, the first of which are `start`, in memory that is allocated once.

    Raises:
        UnusableFile: the stream ends before.
    """
    data = bytearray(count)
    data[: len(start)] = start
    offset = len(start)
    # In chunks: a second copy of a large array would break the promised bound on memory.
    while offset < count and (chunk := stream.read(min(READ_CHUNK_BYTES, count - offset))):
        data[offset : offset + len(chunk)] = chunk
        offset += len(chunk)
    if offset < count:
        raise UnusableFile("truncated")
    return data
