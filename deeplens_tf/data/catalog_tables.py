"""The rows of a catalogue as texts, whether its table is CSV, ECSV, FITS or Parquet."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from deeplens_tf.data.column_units import MAX_HEADER_CHARACTERS, units_in_yaml
from deeplens_tf.data.csv_tables import text_rows
from deeplens_tf.data.fits_tables import read_fits_table
from deeplens_tf.data.parquet_tables import read_parquet_table
from deeplens_tf.errors import DataError, RequestError

MAX_CATALOG_BYTES = 10**9  # as of an image file, so that its digest can be taken
MAX_TABLE_COLUMNS = 1000

_ECSV_START = "# %ECSV "


@dataclass(frozen=True)
class Table:
    """A table that is read once, row by row.

    Attributes:
        columns: their names.
        units: of the columns that have one, by their names.
        rows: the values of each row in the order of the columns; a missing value is "".
    """

    columns: tuple[str, ...]
    units: Mapping[str, str]
    rows: Iterator[Sequence[str]]


def open_table(path: Path) -> Table:
    """Open a table of images; its format follows from the suffix.

    Raises:
        RequestError: no such file, or one of another suffix.
        DataError: not a table, or a larger one than is read. The rows raise it too.
    """
    if not path.exists():
        raise RequestError(f"{path}: no such catalogue")
    if path.suffix.lower() not in READERS:
        raise RequestError(f"{path}: a catalogue is a table, {', '.join(READERS)}")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    if path.stat().st_size > MAX_CATALOG_BYTES:
        raise DataError(f"{path}: larger than 1 GB, the maximum for a catalogue")
    table = READERS[path.suffix.lower()](path)
    _check_columns(path, table.columns)
    return table


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if len(columns) > MAX_TABLE_COLUMNS:
        raise DataError(f"{path}: {len(columns)} columns, at most {MAX_TABLE_COLUMNS} are read")
    for name in columns:
        if not name.isprintable():
            raise DataError(f"{path}: a column is called {name!r:.60}")
    named = [name for name in columns if name]
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]:.60}")


def _open_csv(path: Path) -> Table:
    rows = _lines(path)
    return Table(tuple(next(rows, [])), {}, rows)


def _open_ecsv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            comments = _skip_comments(stream)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not an ECSV table: {error}") from error
    if not comments.startswith(_ECSV_START):
        raise DataError(f"{path}: not an ECSV table, its first line is not {_ECSV_START.strip()}")
    delimiter = re.search(r"^# delimiter: '?([, ])'?\s*$", comments, re.MULTILINE)
    rows = _lines(path, delimiter[1] if delimiter else " ", comments=True)
    units = units_in_yaml(path, re.sub(r"^# ", "", comments, flags=re.MULTILINE))
    return Table(tuple(next(rows, [])), units, rows)


def _skip_comments(stream: TextIO) -> str:
    """Return the lines at the start of an ECSV table that begin with a #, which are read then."""
    lines, start, left = list[str](), stream.tell(), MAX_HEADER_CHARACTERS
    while left > 0 and (line := stream.readline(left)).startswith("#"):
        lines.append(line)
        start, left = stream.tell(), left - len(line)
    stream.seek(start)
    return "".join(lines)


def _lines(path: Path, delimiter: str = ",", comments: bool = False) -> Iterator[list[str]]:
    """Yield the rows of a table of text, the names of the columns first; blank lines are none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            if comments:
                _skip_comments(stream)
            rows = (row for row in text_rows(stream, path, delimiter) if row)
            header = next(rows, [])
            yield header
            for number, row in enumerate(rows, 1):
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: row {number} has {len(row)} values, and the first line names "
                        f"{len(header)} columns"
                    )
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table of text: {error}") from error


def _open_fits(path: Path) -> Table:
    names, units, rows = read_fits_table(path)
    return Table(tuple(names), units, rows)


def _open_parquet(path: Path) -> Table:
    names, units, rows = read_parquet_table(path)
    return Table(tuple(names), units, rows)


READERS: Mapping[str, Callable[[Path], Table]] = {
    ".csv": _open_csv,
    ".ecsv": _open_ecsv,
    ".fits": _open_fits,
    ".fit": _open_fits,
    ".parquet": _open_parquet,
}
