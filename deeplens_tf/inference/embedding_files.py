"""Files of embeddings, `.npz` and Parquet, which are read without trusting them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.parquet_tables import require_pyarrow
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.inference.embedding_npz import (
    is_npz_of_embeddings,
    read_npz,
    require_size,
    write_npz,
)
from deeplens_tf.inference.embedding_parquet import (
    is_parquet_of_embeddings,
    read_parquet,
    require_utf8,
    write_parquet,
)
from deeplens_tf.inference.embedding_rows import BLOCK_ROWS, EmbeddingRows, ReadRows

NPZ, PARQUET = ".npz", ".parquet"


@dataclass(frozen=True)
class Embeddings:
    """Features of images, mapped from a file.

    Attributes:
        path: of the file.
        features: shape (images, dim), float32.
        columns: `file`, and `id`, `ra` and `dec` of a catalogue, where there was one; each of
            shape (images,).
        about: how they were made: `encoder` (its file), `sha256` of it, `layer`, `control`, and
            `data`, the folder of the images, and `selection`, which part of a file is its image;
            {} for a file of another program.
        checksum: CRC-32 of the features, which are the same if it and their shape are.
    """

    path: Path
    features: NDArray[np.float32]
    columns: Mapping[str, NDArray]
    about: Mapping[str, Any]
    checksum: int


def require_format(path: Path) -> None:
    """Refuse a name of another format, and Parquet without pyarrow.

    Raises:
        RequestError: with what would be right.
    """
    if path.suffix not in (NPZ, PARQUET):
        raise RequestError(f"--out {path}: must end in {NPZ} or {PARQUET}")
    if path.suffix == PARQUET:
        require_pyarrow(path)


def require_storable(path: Path, images: int, dim: int, texts: Sequence[str]) -> None:
    """Refuse what the format of a file cannot hold, before all of it is computed.

    Args:
        path: of the file.
        images: how many there will be.
        dim: number of features of each.
        texts: names of some of them.

    Raises:
        RequestError: too many features, or a name that is not UTF-8.
    """
    if path.suffix == PARQUET:
        require_utf8(path, texts)
    else:
        require_size(images, dim)


def write_embeddings(
    draft: Path, path: Path, rows: EmbeddingRows, about: Mapping[str, Any]
) -> None:
    """Write embeddings to a draft, in the format of `path`; equal ones give equal bytes."""
    write = write_parquet if path.suffix == PARQUET else write_npz
    write(draft, rows, about)


def is_embeddings(path: Path) -> bool:
    """Return whether a file is one of embeddings, by the names of its arrays or columns."""
    is_own = is_parquet_of_embeddings if path.suffix == PARQUET else is_npz_of_embeddings
    return is_own(path)


def read_embeddings(path: str | Path) -> Embeddings:
    """Open a file of embeddings, of this package or with the arrays `features` and `file`.

    Every byte is read once, to compare checksums. The features are not held in memory: those of a
    `.npz` file are mapped, those of a Parquet file are unpacked to a file without a name first.

    Raises:
        RequestError: no such file, or one in Parquet without pyarrow.
        DataError: not embeddings, a damaged file, or features that are not finite.
        ResourceError: there is no space to unpack a Parquet file.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"{path}: no such file of embeddings: python -m deeplens_tf.embed")
    try:
        found = read_parquet(path) if path.suffix == PARQUET else read_npz(path)
        _check(found)
    except UnusableFile as error:
        raise DataError(f"{path}: not embeddings: {error}") from error
    return Embeddings(path, *found)


def _check(found: ReadRows) -> None:
    features, columns = found.features, found.columns
    if features.ndim != 2 or any(each.shape != features.shape[:1] for each in columns.values()):
        shapes = {name: array.shape for name, array in {"features": features, **columns}.items()}
        raise UnusableFile(f"features need (images, dim) and the others (images,), not {shapes}")
    for start, block in _blocks(features):
        if not np.isfinite(block).all():
            row = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise UnusableFile(f"the features of row {row} are not finite")


def _blocks(array: NDArray) -> Iterator[tuple[int, NDArray]]:
    for start in range(0, len(array), BLOCK_ROWS):
        yield start, np.asarray(array[start : start + BLOCK_ROWS])
