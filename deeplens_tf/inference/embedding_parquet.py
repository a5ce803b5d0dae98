"""Embeddings as a Parquet file, whose features are lists of one length, by pyarrow.

Parquet has no arrays that can be mapped. A reader unpacks the features to a file without a name, in
the system's folder for such files, and maps that one.
"""

import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.parquet_tables import guarded, open_parquet, require_pyarrow
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import writing
from deeplens_tf.inference.embedding_rows import (
    BLOCK_ROWS,
    COLUMNS,
    EmbeddingRows,
    ReadRows,
    column_values,
    parsed_about,
)
from deeplens_tf.inference.stored_arrays import MAX_JSON_CHARACTERS, npy_header

FEATURES, ABOUT = "features", b"about"
MAX_RATIO = 100  # unpacked bytes per byte of a file
MIN_TEXT_BYTES = 10**6  # that a file of any size may unpack to
MAX_BATCH_VALUES = 1 << 22


def require_utf8(path: Path, texts: Iterable[str]) -> None:
    """Refuse names that Parquet has no letters for.

    Raises:
        RequestError: with the first of them.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RequestError(
                f"{text}: not a name in UTF-8, which Parquet needs: write .npz instead of {path}"
            ) from None


def write_parquet(path: Path, rows: EmbeddingRows, about: Mapping[str, Any]) -> None:
    """Write embeddings, some rows at a time; equal ones give equal bytes."""
    arrow, parquet = import_module("pyarrow"), require_pyarrow(path)
    columns = rows.columns()
    kinds = {name: _kind(arrow, dtype) for name, (dtype, _) in columns.items()}
    kinds[FEATURES] = arrow.list_(arrow.float32(), rows.dim)
    schema = arrow.schema([*kinds.items()], metadata={ABOUT: json.dumps(dict(about))})
    how = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    with parquet.ParquetWriter(path, schema, **how) as writer:
        for part, block in rows.blocks():
            values = [arrow.array(_cells(d, texts[part])) for d, texts in columns.values()]
            lists = arrow.FixedSizeListArray.from_arrays(block.reshape(-1), rows.dim)
            writer.write_batch(arrow.record_batch([*values, lists], schema=schema))


def _kind(arrow: Any, dtype: str) -> Any:
    return arrow.float64() if dtype == "<f8" else arrow.string()


def _cells(dtype: str, texts: list[str]) -> Any:
    return column_values(dtype, texts) if dtype == "<f8" else texts


def is_parquet_of_embeddings(path: Path) -> bool:
    """Return whether a file is one of embeddings, by the names of its columns."""
    try:
        return _has_columns(guarded(path, lambda: open_parquet(path).schema_arrow.names))
    except DataError:
        return False


def read_parquet(path: Path) -> ReadRows:
    """Read the columns of a file, and unpack its features to one that is mapped.

    Raises:
        RequestError: pyarrow is not installed.
        DataError: not a Parquet table.
        UnusableFile: not embeddings.
        ResourceError: there is no space for the features.
    """
    schema = open_parquet(path).schema_arrow
    guarded(path, lambda: schema.names)  # decodes them
    texts = _checked(schema)
    file = open_parquet(path, read_dictionary=texts, page_checksum_verification=True)
    shape = _shape(file, path.stat().st_size)
    columns: dict[str, list] = {name: [] for name in schema.names if name != FEATURES}
    room = _Room(MAX_RATIO * path.stat().st_size + MIN_TEXT_BYTES)
    checksum = zlib.crc32(npy_header("<f4", shape))
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as stream:
        for batch in _batches(path, file, shape):
            for name, values in columns.items():
                values.append(_values(name, batch[name], room))
            block = _block(batch[FEATURES], shape[1]).tobytes()
            checksum = zlib.crc32(block, checksum)
            stream.write(block)
        stream.flush()
        if stream.tell() != 4 * shape[0] * shape[1]:
            raise UnusableFile(f"it has fewer rows than the {shape[0]} that it states")
        features = np.memmap(stream, "<f4", "r", shape=shape)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    return ReadRows(features, joined, _about(schema), checksum)


def _has_columns(names: list[str]) -> bool:
    return len({*names}) == len(names) and {FEATURES, "file"} <= {*names} <= {FEATURES, *COLUMNS}


def _checked(schema: Any) -> list[str]:
    """Return which columns are texts, after the type of each was checked."""
    if not _has_columns(schema.names):
        found = ", ".join(schema.names)[:200] or "nothing"
        raise UnusableFile(f"it holds {found}; embeddings hold features and file")
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    listed = schema.field(FEATURES).type
    if str(getattr(listed, "value_type", "")) != "float":
        raise UnusableFile(
            f"features of the type {kinds[FEATURES][:60]} instead of lists of float32"
        )
    del kinds[FEATURES]
    for name, kind in kinds.items():
        if kind not in ("string", "large_string") and not (
            name in ("ra", "dec") and kind == "double"
        ):
            raise UnusableFile(f"{name} of the type {kind[:60]} instead of text")
    return [name for name, kind in kinds.items() if kind != "double"]


def _shape(file: Any, size: int) -> tuple[int, int]:
    """Return (images, dim) as the file states it, if it is large enough to hold that."""
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    stated = [each.num_values for each in columns if each.path_in_schema.startswith(f"{FEATURES}.")]
    rows, values = file.metadata.num_rows, sum(stated)
    if min([rows, *stated]) < 1 or values % rows:
        raise UnusableFile(f"{values} features of {rows} images: not lists of one length")
    if 4 * values > MAX_RATIO * size:
        raise UnusableFile(f"it states {4 * values} bytes of features, in a file of {size} bytes")
    return rows, values // rows


def _batches(path: Path, file: Any, shape: tuple[int, int]) -> Iterator[Any]:
    at_once = max(1, min(BLOCK_ROWS, MAX_BATCH_VALUES // shape[1]))
    batches, left = file.iter_batches(batch_size=at_once), shape[0]
    while (batch := guarded(path, lambda: next(batches, None))) is not None:
        left -= len(batch)
        if left < 0:
            raise UnusableFile(f"it has more rows than the {shape[0]} that it states")
        yield batch


def _block(lists: Any, dim: int) -> NDArray[np.float32]:
    """Return the features of some rows, shape (rows, dim)."""
    lengths = import_module("pyarrow.compute").list_value_length(lists).to_numpy(False)
    values = lists.flatten()
    if (lengths != dim).any() or values.null_count:
        raise UnusableFile(f"the features of a row are not {dim} numbers")
    return values.to_numpy(False).astype("<f4", copy=False).reshape(-1, dim)


class _Room:
    """How many bytes the texts of a file may still unpack to."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UnusableFile(f"its texts unpack to more than {MAX_RATIO} times its size")


def _values(name: str, column: Any, room: _Room) -> NDArray:
    """Return a column of some rows: numbers, NaN for none, or texts."""
    if str(column.type) == "double":
        return column.to_numpy(False)
    if column.null_count or column.dictionary.null_count:
        raise UnusableFile(f"a row has no {name}")
    lengths = import_module("pyarrow.compute").binary_length(column.dictionary).to_numpy(False)
    room.take(int(lengths[column.indices.to_numpy(False)].sum(dtype=np.int64)))
    return _decoded(name, column.dictionary)[column.indices.to_numpy(False)]


def _decoded(name: str, texts: Any) -> NDArray:
    try:
        texts.validate(full=True)
    except ValueError as error:
        raise UnusableFile(f"{name} is not UTF-8: {error}") from error
    return texts.to_numpy(False)


def _about(schema: Any) -> Mapping[str, Any]:
    text = (schema.metadata or {}).get(ABOUT)
    if text is None:
        return {}
    if len(text) > MAX_JSON_CHARACTERS:
        raise UnusableFile("about is no text")
    return parsed_about(text.decode("utf-8", "replace"))
