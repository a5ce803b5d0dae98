"""The index of a search: cells of the rows, in a file beside the embeddings.

It is a plain `.npz` file, not one of FAISS, whose reader is not made for a stranger's file.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import draft_file, writing
from deeplens_tf.inference.cells import Cells, build_cells
from deeplens_tf.inference.embedding_files import Embeddings
from deeplens_tf.inference.embedding_rows import parsed_about
from deeplens_tf.inference.stored_arrays import store_array, stored_arrays, text_of
from deeplens_tf.terminal import print_lines

INDEX_SUFFIX = ".index.npz"
TYPES = {"centres": "<f4", "order": "<i8", "starts": "<i8", "about": "<U"}


def index_of(found: Embeddings) -> Cells:
    """Return the index beside embeddings; the first call builds it.

    Raises:
        RequestError: the index is of other embeddings, or FAISS is needed and not installed.
        DataError: the file is no index.
        ResourceError: it cannot be written.
    """
    path = found.path.with_name(f"{found.path.stem}{INDEX_SUFFIX}")
    if path.exists():
        return read_index(path, found)
    print_lines(f"index: building {path}, once for these embeddings")
    cells = build_cells(found.features)
    write_index(path, cells, found.checksum)
    return cells


def write_index(path: Path, cells: Cells, checksum: int) -> None:
    """Write an index; equal cells give equal bytes.

    Args:
        path: of the file.
        cells: of the rows.
        checksum: of the embeddings.

    Raises:
        ResourceError: it cannot be written.
    """
    about = {"features_crc32": checksum, "looked_at": cells.looked_at, "recall": cells.recall}
    arrays = {name: getattr(cells, name) for name in ("centres", "order", "starts")}
    arrays["about"] = np.array(json.dumps(about))
    with writing(path), draft_file(path) as draft, zipfile.ZipFile(draft, "w") as archive:
        for name, values in arrays.items():
            store_array(archive, name, values.dtype.str, values.shape, [values.tobytes()])


def read_index(path: Path, found: Embeddings) -> Cells:
    """Return the index of embeddings; the file is checked as one of a stranger's.

    Raises:
        RequestError: it is of other embeddings.
        DataError: no index, or a damaged one.
    """
    if not path.is_file():
        raise DataError(f"{path}: not an index: not a file")
    try:
        stored = stored_arrays(path, TYPES, TYPES, _require_type)
        arrays = {name: each.values for name, each in stored.items()}
        about = parsed_about(text_of("about", arrays.pop("about")))
        _require_same(path, about, found)
        numbers = (about.get("looked_at", 0), about.get("recall", -1))
        cells = Cells(**arrays, looked_at=numbers[0], recall=numbers[1])
        _check(cells, found.features)
    except UnusableFile as error:
        raise DataError(f"{path}: not an index: {error}: remove it to build another") from error
    return cells


def _require_type(name: str, descr: str) -> None:
    if not descr.startswith(TYPES[name]):
        raise UnusableFile(f"{name} of the type {descr[:20]!r} instead of {TYPES[name]}")


def _require_same(path: Path, about: Any, found: Embeddings) -> None:
    checksum = about.get("features_crc32")
    if checksum != found.checksum:
        raise RequestError(
            f"{path}: the index of other embeddings (CRC-32 {checksum}) than {found.path} "
            f"({found.checksum}): remove it to build another"
        )


def _check(cells: Cells, features: NDArray[np.float32]) -> None:
    """Refuse cells that are not all rows once, and numbers that are none of a search."""
    count, rows = cells.starts.size - 1, len(features)
    shapes = (cells.starts.shape, cells.centres.shape, cells.order.shape)
    if count < 1 or shapes != ((count + 1,), (count, features.shape[1]), (rows,)):
        raise UnusableFile("its arrays have other shapes than cells of these embeddings")
    if cells.starts[0] != 0 or cells.starts[-1] != rows or (np.diff(cells.starts) < 0).any():
        raise UnusableFile("its cells do not follow each other")
    if cells.order.min() < 0 or cells.order.max() >= rows:
        raise UnusableFile("it names rows that are none")
    if (np.bincount(cells.order, minlength=rows) != 1).any():
        raise UnusableFile("it names a row twice")
    is_count = type(cells.looked_at) is int and 1 <= cells.looked_at <= count
    is_part = type(cells.recall) is float and 0 <= cells.recall <= 1
    if not (is_count and is_part and np.isfinite(cells.centres).all()):
        raise UnusableFile("its numbers are none of an index")
