"""Bounded reading of the CSV tables that users lay beside their images."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deeplens_tf.errors import DataError

MAX_TABLE_BYTES = 64 << 20
MAX_ROW_CHARACTERS = 1 << 16


def read_columns(path: Path, columns: tuple[str, ...], what: str) -> Iterator[tuple[str, ...]]:
    """Yield the values of some columns of a table, row by row; a missing value is "".

    Spaces around a value are not part of it.

    Args:
        path: the table; its first row names the columns.
        columns: the names of the columns; others are ignored.
        what: what the table is of, for messages, such as "masses".

    Raises:
        DataError: not a regular file, too large, not a CSV table, or a column is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise DataError(f"{path}: larger than 64 MB, the maximum for a table of {what}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = text_rows(stream, path)
            positions = _positions(next(rows, []), columns, path, what)
            for row in rows:
                yield tuple(row[at] if at < len(row) else "" for at in positions)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV table: {error}") from error


def text_rows(stream: TextIO, path: Path, delimiter: str = ",") -> Iterator[list[str]]:
    """Yield the rows of a table. Each is one line, and lines have a maximum length.

    Raises:
        DataError: a longer line.
        csv.Error, UnicodeDecodeError: not a CSV table.
    """
    while line := stream.readline(MAX_ROW_CHARACTERS):
        if len(line) == MAX_ROW_CHARACTERS:
            raise DataError(
                f"{path}: not a CSV table: a line of {MAX_ROW_CHARACTERS} characters or more"
            )
        rows = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
        row = next(rows, [])
        yield [value.strip() for value in row]


def _positions(
    header: list[str], columns: tuple[str, ...], path: Path, what: str
) -> tuple[int, ...]:
    if missing := set(columns) - set(header):
        raise DataError(
            f"{path}: no column {' and '.join(sorted(missing))}; a table of {what} needs the "
            f"columns {' and '.join(columns)}"
        )
    return tuple(header.index(column) for column in columns)
