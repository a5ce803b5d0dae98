"""The first binary table of a FITS file, row by row, as texts.

https://fits.gsfc.nasa.gov/fits_standard.html, section 7.3. A table may have millions of rows, so a
few thousand at once are in memory.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.formats.fits_headers import Hdu, read_hdus
from deeplens_tf.errors import DataError, UnusableFile

MAX_FITS_COLUMNS = 1000
ROWS_AT_ONCE = 4096
MAX_FITS_ROW_BYTES = 1 << 20
OTHER = "[]"  # instead of a value that is neither a number nor a text, as of an array

_FORMAT = re.compile(r"(\d{0,8})([LXBIJKAEDCMPQ])")
_WIDTHS = dict(L=1, B=1, I=2, J=4, K=8, A=1, E=4, D=8, C=8, M=16, P=8, Q=16)
_TYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


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
    try:
        with path.open("rb") as stream:
            table = _first_table(stream)
            start = stream.tell()
        count = table.whole("TFIELDS")
        if not 0 <= count < MAX_FITS_COLUMNS:
            raise UnusableFile(f"{count} columns, at most {MAX_FITS_COLUMNS - 1} are read")
        columns = [_column(table, number) for number in range(1, count + 1)]
        rows, size = table.shape if len(table.shape) == 2 else (0, 0)
    except UnusableFile as error:
        raise DataError(f"{path}: {error}") from error
    if size != sum(column.width for column in columns) or not 0 < size <= MAX_FITS_ROW_BYTES:
        raise DataError(f"{path}: NAXIS1 {size} is not the size of a row of its columns")
    if start + size * rows > path.stat().st_size:
        raise DataError(f"{path}: shorter than its {rows} rows")
    names = [column.name for column in columns]
    units = {column.name: column.unit for column in columns if column.unit}
    return names, units, _rows(path, start, size, rows, columns)


def _first_table(stream: BinaryIO) -> Hdu:
    """Return the first binary table; the stream is at the start of its data."""
    for hdu in read_hdus(stream):
        if not hdu.number and hdu.values.get("SIMPLE") != "T":
            raise UnusableFile("not a FITS file")
        if hdu.text("XTENSION") == "BINTABLE":
            return hdu
    raise UnusableFile("no binary table in it")


def _column(table: Hdu, number: int) -> _Column:
    text = table.text(f"TFORM{number}")
    found = _FORMAT.match(text)
    if found is None:
        raise UnusableFile(f"TFORM{number} {text!r:.40} is no format of a column")
    repeat, code = int(found[1] or 1), found[2]
    width = -(-repeat // 8) if code == "X" else repeat * _WIDTHS[code]
    null = table.whole(f"TNULL{number}") if f"TNULL{number}" in table.values else None
    scale, zero = table.number_of(f"TSCAL{number}", 1), table.number_of(f"TZERO{number}", 0)
    name, unit = (table.text(f"{key}{number}").strip() for key in ("TTYPE", "TUNIT"))
    return _Column(name, unit, code, repeat, width, null, scale, zero)


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
