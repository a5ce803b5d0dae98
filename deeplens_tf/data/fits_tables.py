"""The first binary table of a FITS file, row by row, as texts.

https://fits.gsfc.nasa.gov/fits_standard.html, sections 4.4 and 7.3. The headers are read here,
within limits, and not by `astropy.io.fits`, which reads a header of any length into memory.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import DataError

BLOCK_BYTES = 2880
MAX_HEADER_BLOCKS = 400  # 14,400 cards
MAX_EXTENSIONS = 100  # that are passed over before the table
ROWS_AT_ONCE = 4096
MAX_FITS_ROW_BYTES = 1 << 20
OTHER = "[]"  # instead of a value that is neither a number nor a text, as of an array

_FORMAT = re.compile(r"(\d{0,8})([LXBIJKAEDCMPQ])")
_WIDTHS = dict(L=1, B=1, I=2, J=4, K=8, A=1, E=4, D=8, C=8, M=16, P=8, Q=16)
_TYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}

Header = Mapping[str, Any]


@dataclass(frozen=True)
class _Column:
    name: str
    unit: str
    code: str
    repeat: int
    width: int
    null: int | None
    scale: float
    zero: float


def read_fits_table(path: Path) -> tuple[list[str], dict[str, str], Iterator[Sequence[str]]]:
    """Return the columns of a table, their units and its rows.

    Raises:
        DataError: not a FITS file with a binary table, or one that its header does not describe.
    """
    with path.open("rb") as stream:
        header = _table_header(path, stream)
        start = stream.tell()
    columns = [_column(path, header, i + 1) for i in range(_whole(path, header, "TFIELDS", 1000))]
    size, rows = _whole(path, header, "NAXIS1"), _whole(path, header, "NAXIS2")
    if size != sum(column.width for column in columns) or not 0 < size <= MAX_FITS_ROW_BYTES:
        raise DataError(f"{path}: NAXIS1 {size} is not the size of a row of its columns")
    if start + size * rows > path.stat().st_size:
        raise DataError(f"{path}: shorter than its {rows} rows")
    names = [column.name for column in columns]
    units = {column.name: column.unit for column in columns if column.unit}
    return names, units, _rows(path, start, size, rows, columns)


def _table_header(path: Path, stream: BinaryIO) -> Header:
    """Read the headers up to that of the first binary table."""
    for i in range(MAX_EXTENSIONS + 1):
        header = _header(path, stream, "SIMPLE" if i == 0 else "XTENSION")
        if header.get("XTENSION") == "BINTABLE":
            return header
        stream.seek(-(-_data_bytes(path, header) // BLOCK_BYTES) * BLOCK_BYTES, 1)
    raise DataError(f"{path}: no binary table in its first {MAX_EXTENSIONS} extensions")


def _header(path: Path, stream: BinaryIO, first: str) -> Header:
    values: dict[str, Any] = {}
    for _ in range(MAX_HEADER_BLOCKS):
        block = stream.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            what = "no binary table in it" if first == "XTENSION" else "not a FITS file"
            raise DataError(f"{path}: {what}")
        cards = [block[at : at + 80].decode("latin-1") for at in range(0, BLOCK_BYTES, 80)]
        if not values and not cards[0].startswith(first):
            raise DataError(f"{path}: not a FITS file with a table")
        for card in cards:
            if card[:8].rstrip() == "END":
                return values
            if card[8:10] == "= ":
                values.setdefault(card[:8].rstrip(), _value(card[10:]))
    raise DataError(f"{path}: a header of more than {MAX_HEADER_BLOCKS * BLOCK_BYTES} bytes")


def _value(text: str) -> Any:
    """Return the value of a card: a text, a number or a word such as T."""
    if quoted := re.match(r"\s*'((?:[^']|'')*)'", text):
        return quoted[1].replace("''", "'").rstrip()
    word = text.partition("/")[0].strip()
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _data_bytes(path: Path, header: Header) -> int:
    axes = [
        _whole(path, header, f"NAXIS{i + 1}") for i in range(_whole(path, header, "NAXIS", 999))
    ]
    if not axes:
        return 0
    bits = abs(header["BITPIX"]) if isinstance(header.get("BITPIX"), int) else 0
    extra = _whole(path, header, "PCOUNT") if "PCOUNT" in header else 0
    return bits // 8 * (math.prod(axes) + extra)


def _whole(path: Path, header: Header, key: str, largest: int = 2**50) -> int:
    value = header.get(key)
    if type(value) is not int or not 0 <= value <= largest:
        raise DataError(f"{path}: {key} of its header is {value!r:.40}")
    return value


def _column(path: Path, header: Header, number: int) -> _Column:
    text = str(header.get(f"TFORM{number}", ""))
    found = _FORMAT.match(text)
    if found is None:
        raise DataError(f"{path}: TFORM{number} {text!r:.40} is no format of a column")
    repeat, code = int(found[1] or 1), found[2]
    width = -(-repeat // 8) if code == "X" else repeat * _WIDTHS[code]
    null = header.get(f"TNULL{number}")
    scale, zero = (header.get(f"{key}{number}", default) for key, default in _SCALING)
    if not all(isinstance(value, int | float) for value in (scale, zero)):
        raise DataError(f"{path}: TSCAL{number} or TZERO{number} is no number")
    name, unit = (str(header.get(f"{key}{number}", "")).strip() for key in ("TTYPE", "TUNIT"))
    return _Column(
        name, unit, code, repeat, width, null if type(null) is int else None, scale, zero
    )


_SCALING = (("TSCAL", 1), ("TZERO", 0))


def _rows(
    path: Path, start: int, size: int, rows: int, columns: Sequence[_Column]
) -> Iterator[Sequence[str]]:
    count = max(1, min(ROWS_AT_ONCE, MAX_FITS_ROW_BYTES // size))
    with path.open("rb") as stream:
        stream.seek(start)
        for first in range(0, rows, count):
            some = min(count, rows - first)
            data = np.frombuffer(stream.read(some * size), np.uint8).reshape(some, size)
            ends = np.cumsum([column.width for column in columns])
            parts = np.split(data, ends[:-1], axis=1)
            yield from zip(
                *(_texts(path, part, column) for part, column in zip(parts, columns, strict=True)),
                strict=True,
            )


def _texts(path: Path, data: NDArray[np.uint8], column: _Column) -> list[str]:
    """Return the values of a column, from the bytes of some rows, shape (rows, width)."""
    if column.code == "A":
        return [_text(path, bytes(row)) for row in data]
    if column.repeat != 1 or column.code not in _TYPES:
        return [OTHER] * len(data)
    values = np.ascontiguousarray(data).view(_TYPES[column.code])[:, 0]
    if column.code == "L":
        return [{b"T": "true", b"F": "false"}.get(value, "") for value in values.tolist()]
    if column.code in "ED":
        return _real_texts(values, column)
    return [_whole_text(value, column) for value in values.tolist()]


def _text(path: Path, value: bytes) -> str:
    try:
        return value.partition(b"\0")[0].decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a text that is not ASCII or UTF-8: {error}") from error


def _real_texts(values: NDArray[np.floating], column: _Column) -> list[str]:
    if (column.scale, column.zero) != (1, 0):
        values = values.astype(np.float64) * column.scale + column.zero
    # The shortest text that is the value again; a float32 has fewer digits than a float64.
    show: Callable[[Any], str] = str if values.dtype.itemsize == 4 else repr
    native = values.astype(values.dtype.newbyteorder("="))
    items = native if native.dtype.itemsize == 4 else native.tolist()
    return ["" if value != value else show(value) for value in items]


def _whole_text(value: int, column: _Column) -> str:
    if value == column.null:
        return ""
    if column.scale == 1 and column.zero == column.zero // 1:  # as of unsigned numbers
        return str(value + int(column.zero))
    return str(value * column.scale + column.zero)
