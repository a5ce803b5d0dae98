"""Embeddings as a `.npz` file, which NumPy reads.

The features of a million images take no memory but the system's cache.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.inference.embedding_rows import (
    BLOCK_ROWS,
    COLUMNS,
    EmbeddingRows,
    ReadRows,
    column_values,
    parsed_about,
)
from deeplens_tf.inference.stored_arrays import names_of, store_array, stored_arrays, text_of

MAX_NPZ_BYTES = 2 * 10**9  # larger archives need an extension of zip
NEEDED, ALLOWED = ("features", "file"), ("features", "about", *COLUMNS)

_TEXTS = re.compile(r"<U(\d{1,6})")


def require_size(images: int, dim: int) -> None:
    """Refuse features that are too many for a file.

    Raises:
        RequestError: more than 2 GB.
    """
    if 4 * images * dim > MAX_NPZ_BYTES:
        raise RequestError(
            f"{images} images of {dim} features are more than 2 GB, the maximum for a .npz file: "
            "write .parquet, or embed parts of the images, each to a file of its own"
        )


def write_npz(path: Path, rows: EmbeddingRows, about: Mapping[str, Any]) -> None:
    """Write embeddings; equal ones give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        blocks = (block.tobytes() for _, block in rows.blocks())
        store_array(archive, "features", "<f4", (len(rows), rows.dim), blocks)
        for name, (dtype, texts) in rows.columns().items():
            parts = (texts[i : i + BLOCK_ROWS] for i in range(0, len(texts), BLOCK_ROWS))
            data = (column_values(dtype, part).tobytes() for part in parts)
            store_array(archive, name, dtype, (len(texts),), data)
        text = np.array(json.dumps(dict(about)))
        store_array(archive, "about", text.dtype.str, (), [text.tobytes()])


def is_npz_of_embeddings(path: Path) -> bool:
    """Return whether a file is one of embeddings, by the names of its arrays."""
    try:
        return {*NEEDED} <= {*names_of(path)} <= {*ALLOWED}
    except (OSError, UnusableFile):
        return False


def read_npz(path: Path) -> ReadRows:
    """Map the arrays of a file.

    Raises:
        UnusableFile: not embeddings, or a damaged file.
    """
    arrays = stored_arrays(path, NEEDED, ALLOWED, _require_type)
    about, features = arrays.pop("about", None), arrays.pop("features")
    columns = {name: array.values for name, array in arrays.items()}
    found = parsed_about(text_of("about", about.values)) if about else {}
    return ReadRows(features.values, columns, found, features.checksum)


def _require_type(name: str, descr: str) -> None:
    if name == "features":
        if descr != "<f4":
            raise UnusableFile(f"features of the type {descr[:20]!r} instead of float32")
    elif not (_TEXTS.fullmatch(descr) or (name in ("ra", "dec") and descr == "<f8")):
        raise UnusableFile(f"{name} of the type {descr[:20]!r} instead of text")
