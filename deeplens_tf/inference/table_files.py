"""Tables of predictions as files: CSV, Parquet, FITS and ECSV, written a block of rows at a time.

Every table is first one of CSV, which grows image by image; the other formats are made of it.
"""

import csv
import io
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.data.catalog_tables import open_table
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.embedding_rows import column_values

ROWS_OF_BLOCK = 16_384
FITS_BLOCK_BYTES = 2880
MAX_FITS_NAME = 68  # characters of the text of one card
LOGICAL = {"True": b"T", "False": b"F"}  # FITS writes an unknown one as a zero byte


@dataclass(frozen=True)
class Columns:
    """The columns of a table; those of no other kind are texts, "" where there is none.

    Attributes:
        names: of all columns, in their order.
        outputs: of a model, float32.
        numbers: of a catalogue, float64.
        flags: true, false or unknown.
    """

    names: Sequence[str]
    outputs: Collection[str]
    numbers: Collection[str] = ()
    flags: Collection[str] = ()

    def values(self, name: str, texts: Sequence[str]) -> NDArray:
        """Return the values of a column that is no text, NaN or None where there is none."""
        if name in self.flags:
            return np.array([{"True": True, "False": False}.get(text) for text in texts], object)
        values = column_values("<f8", texts)
        return values.astype("<f4") if name in self.outputs else values

    def is_text(self, name: str) -> bool:
        """Return whether the values of a column are texts."""
        return not (name in self.outputs or name in self.numbers or name in self.flags)


def suffix_of(path: Path) -> str:
    """Return the suffix of a table.

    Raises:
        RequestError: none of the formats, or one whose library is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_WRITERS:
        raise RequestError(f"--out {path}: must be a file {', '.join(TABLE_WRITERS)}")
    if suffix == ".parquet":
        _parquet(path)
    return suffix


def require_writable(path: Path, columns: Columns, files: Sequence[str]) -> None:
    """Refuse names that a format cannot hold, before anything is predicted.

    Args:
        path: of the table.
        columns: of the table.
        files: names of the images.

    Raises:
        RequestError: the name of a file has a carriage return, or is not valid Unicode, which only
            CSV takes; ECSV, and one begins with a space or has another sign that ends a line; or
            FITS, and a column's name is not ASCII, too long, or that of another column but for
            small and capital letters.
    """
    suffix = suffix_of(path)
    _require_file_names(path, suffix, files)
    if suffix == ".fits":
        _require_fits_names(path, columns)


def _require_file_names(path: Path, suffix: str, files: Sequence[str]) -> None:
    for name in files:
        if "\r" in name:
            raise RequestError(f"--out {path}: {name!r:.200} has a carriage return: rename it")
        if suffix != ".csv" and not _is_utf8(name):
            raise RequestError(f"--out {path}: {name!r:.200} is no name in UTF-8: choose .csv")
        # Readers of ECSV drop spaces at the ends of a text, and take each of these signs for "\n".
        if suffix == ".ecsv" and (name != name.strip() or "\n".join(name.splitlines()) != name):
            raise RequestError(
                f"--out {path}: ECSV does not keep the name {name!r:.200}: choose .parquet or .csv"
            )


def _is_utf8(name: str) -> bool:
    return name.encode(errors="ignore").decode() == name


def _require_fits_names(path: Path, columns: Columns) -> None:
    folded = [name.casefold() for name in columns.names]
    for name in columns.names:
        if not name.isascii() or not name.isprintable() or len(name) > MAX_FITS_NAME:
            raise RequestError(
                f"--out {path}: FITS cannot name a column {name[:80]}, only by {MAX_FITS_NAME} "
                "ASCII characters: choose .parquet, .ecsv or .csv"
            )
        if folded.count(name.casefold()) > 1:
            raise RequestError(
                f"--out {path}: FITS does not tell the column {name} from the one in other letter "
                "case: choose .parquet, .ecsv or .csv"
            )


def require_replaceable(path: Path, first: Sequence[str], last: Sequence[str]) -> None:
    """Refuse to replace a file but a table whose first and last columns are these.

    Raises:
        RequestError: it is something else.
    """
    if not path.exists():
        return
    try:
        columns = list(open_table(path).columns)
    except (DataError, RequestError):
        columns = []
    if columns[: len(first)] != [*first] or not {*last} <= {*columns}:
        raise RequestError(f"{path}: is no table of predictions: give --out another file")


def write_table(rows: Path, path: Path, suffix: str, columns: Columns) -> None:
    """Write a table that is there in CSV.

    Args:
        rows: the table in CSV.
        path: file to write.
        suffix: the format.
        columns: of the table.
    """
    TABLE_WRITERS[suffix](rows, path, columns)


def _write_parquet(rows: Path, path: Path, columns: Columns) -> None:
    arrow, parquet = import_module("pyarrow"), _parquet(path)
    schema = arrow.schema([(name, _arrow_type(arrow, columns, name)) for name in columns.names])
    with parquet.ParquetWriter(path, schema) as writer:
        for block in _blocks(rows):
            arrays = [
                arrow.array(_arrow_values(columns, name, block[name]), field.type, from_pandas=True)
                for name, field in zip(columns.names, schema, strict=True)
            ]
            writer.write_table(arrow.table(arrays, schema=schema))


def _arrow_type(arrow: Any, columns: Columns, name: str) -> Any:
    if columns.is_text(name):
        return arrow.string()
    if name in columns.flags:
        return arrow.bool_()
    return arrow.float32() if name in columns.outputs else arrow.float64()


def _arrow_values(columns: Columns, name: str, texts: pd.Series) -> Any:
    if columns.is_text(name):
        return [text or None for text in texts]
    return columns.values(name, texts.tolist())


def _write_ecsv(rows: Path, path: Path, columns: Columns) -> None:
    """Write a table whose texts are all quoted: a row that begins with # is a comment otherwise."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(_ecsv_header(columns))
        lines = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        for block in _blocks(rows):
            values = [_ecsv_values(columns, name, block[name].tolist()) for name in columns.names]
            lines.writerows(zip(*values, strict=True))


def _ecsv_header(columns: Columns) -> str:
    from astropy.table import Table

    values = {name: _ecsv_type(columns, name) for name in columns.names}
    text = io.StringIO()
    Table({name: np.empty(0, dtype) for name, dtype in values.items()}).write(
        text, format="ascii.ecsv", delimiter=","
    )
    return text.getvalue()


def _ecsv_type(columns: Columns, name: str) -> str:
    if columns.is_text(name):
        return "U1"
    if name in columns.flags:
        return "?"
    return "f4" if name in columns.outputs else "f8"


def _ecsv_values(columns: Columns, name: str, texts: list[str]) -> Sequence[Any]:
    """Return values of a column as they are written; "" for each that is missing."""
    if columns.is_text(name) or name in columns.flags:
        return texts
    return ["" if np.isnan(value) else value for value in columns.values(name, texts)]


def _write_fits(rows: Path, path: Path, columns: Columns) -> None:
    """Write a binary table; https://fits.gsfc.nasa.gov/fits_standard.html, section 7.3."""
    count, widths = _count_and_widths(rows, columns)
    header, dtype = _fits_layout(columns, widths, count)
    with path.open("wb") as stream:
        stream.write(header)
        for block in _blocks(rows):
            data = np.zeros(len(block), dtype)
            for number, name in enumerate(columns.names):
                data[f"f{number}"] = _fits_values(columns, name, block[name].tolist())
            stream.write(data.tobytes())
        stream.write(bytes(-count * dtype.itemsize % FITS_BLOCK_BYTES))


def _count_and_widths(rows: Path, columns: Columns) -> tuple[int, dict[str, int]]:
    """Return the number of rows, and the bytes of the longest text of each column of texts."""
    count, widths = 0, {name: 1 for name in columns.names if columns.is_text(name)}
    for block in _blocks(rows):
        count += len(block)
        for name in widths:
            widths[name] = max(widths[name], *(len(text.encode()) for text in block[name]))
    return count, widths


def _fits_layout(columns: Columns, widths: Mapping[str, int], count: int) -> tuple[bytes, np.dtype]:
    """Return the headers of the file, and how a row of the table is stored."""
    from astropy.io import fits

    formats = {name: _fits_format(columns, name, widths) for name in columns.names}
    described = [fits.Column(name, format=code) for name, (code, _) in formats.items()]
    table = fits.BinTableHDU.from_columns(described, nrows=0)
    table.header["NAXIS2"] = count
    primary = fits.PrimaryHDU()
    headers = (primary.header.tostring() + table.header.tostring()).encode("ascii")
    return headers, np.dtype([(f"f{i}", form) for i, (_, form) in enumerate(formats.values())])


def _fits_format(columns: Columns, name: str, widths: Mapping[str, int]) -> tuple[str, str]:
    if name in widths:
        return f"{widths[name]}A", f"S{widths[name]}"
    if name in columns.flags:
        return "L", "S1"
    return ("E", ">f4") if name in columns.outputs else ("D", ">f8")


def _fits_values(columns: Columns, name: str, texts: list[str]) -> Any:
    if columns.is_text(name):
        return [text.encode() for text in texts]
    if name in columns.flags:
        return [LOGICAL.get(text, b"\0") for text in texts]
    return columns.values(name, texts)


def _blocks(rows: Path) -> Iterator[pd.DataFrame]:
    """Yield the rows of a table in CSV as texts, some at once."""
    with pd.read_csv(rows, dtype=str, keep_default_na=False, chunksize=ROWS_OF_BLOCK) as blocks:
        yield from blocks


def _parquet(path: Path) -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise RequestError(
            f"--out {path}: Parquet needs pyarrow: pip install 'deeplens_tf[parquet]'"
        ) from None


def _write_csv(rows: Path, path: Path, columns: Columns) -> None:
    shutil.copyfile(rows, path)


TABLE_WRITERS: Mapping[str, Callable[[Path, Path, Columns], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".fits": _write_fits,
    ".ecsv": _write_ecsv,
}
