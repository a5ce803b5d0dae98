"""A Parquet table, row by row, as texts; pyarrow, an extra, reads it."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from deeplens_tf.data.column_units import units_in_yaml
from deeplens_tf.errors import DataError, RequestError

ROWS_PER_BATCH = 4096
MAX_GROUP_BYTES = 10**9  # of the rows that a Parquet file compresses together
MAX_THRIFT_BYTES = 10**7  # of its description
ASTROPY_KEY, UNIT_KEY = b"table_meta_yaml", b"unit"


def read_parquet_table(path: Path) -> tuple[list[str], dict[str, str], Iterator[Sequence[str]]]:
    """Return the columns of a table, their units and its rows.

    Raises:
        RequestError: pyarrow is not installed.
        DataError: not a Parquet table, or one that unpacks to more than is read.
    """
    file = open_parquet(path)
    schema = file.schema_arrow
    return schema.names, _units(path, schema), _rows(path, file)


def require_pyarrow(path: Path) -> Any:
    """Return the module of pyarrow that reads and writes Parquet.

    Raises:
        RequestError: it is not installed.
    """
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise RequestError(
            f"{path}: a Parquet table needs pyarrow: pip install 'deeplens_tf[parquet]'"
        ) from None


def open_parquet(path: Path, **options: Any) -> Any:
    """Open a table of a stranger; `options` are those of pyarrow's `ParquetFile`.

    Raises:
        RequestError: pyarrow is not installed.
        DataError: not a Parquet table, or one that unpacks to more than is read.
    """
    parquet = require_pyarrow(path)
    options["thrift_string_size_limit"] = MAX_THRIFT_BYTES
    options["thrift_container_size_limit"] = MAX_THRIFT_BYTES
    file = guarded(path, lambda: parquet.ParquetFile(path, **options))
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    if any(group.total_byte_size > MAX_GROUP_BYTES for group in groups):
        raise DataError(f"{path}: a group of rows unpacks to more than 1 GB")
    return file


def _units(path: Path, schema: Any) -> dict[str, str]:
    """Return the units in the description of the table by astropy, or in that of each column."""
    described = guarded(path, lambda: (schema.metadata or {}).get(ASTROPY_KEY, b"").decode())
    own = {field.name: (field.metadata or {}).get(UNIT_KEY, b"") for field in schema}
    stated = {name: guarded(path, unit.decode) for name, unit in own.items() if unit}
    return units_in_yaml(path, described) | stated


def _rows(path: Path, file: Any) -> Iterator[Sequence[str]]:
    batches = file.iter_batches(batch_size=ROWS_PER_BATCH)
    while (batch := guarded(path, lambda: next(batches, None))) is not None:
        columns = guarded(path, lambda: [_texts(column) for column in batch.columns])
        yield from zip(*columns, strict=True)


def _texts(column: Any) -> list[str]:
    """Return the values of a column of a batch; one without a value is ""."""
    # The shortest text that is the value again; a float32 has fewer digits than a float64.
    single = str(column.type) in ("float", "halffloat")
    values = column.to_numpy(zero_copy_only=False) if single else column.to_pylist()
    return ["" if value is None or value != value else str(value).strip() for value in values]


def guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Return what a call of pyarrow returns.

    Raises:
        DataError: the call failed.
    """
    try:
        return read()
    except (ValueError, OSError, NotImplementedError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: not a Parquet table: {' '.join(str(error).split())}") from error
