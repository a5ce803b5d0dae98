"""Embeddings as a `.npz` file, which NumPy reads and this module reads without trusting it.

Its arrays are stored as they are and without pickles, so that a reader maps them into memory
instead of copying them: the features of a million images take no memory but the system's cache.
"""

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.npy import FIRST_READ_BYTES, READ_CHUNK_BYTES, split_header
from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.files.zip_archives import StoredMember, check_central_directory
from deeplens_tf.inference.embedding_rows import BLOCK_ROWS, EmbeddingRows, column_values

MAX_NPZ_BYTES = 2 * 10**9  # larger archives need an extension of zip
COLUMNS = ("file", "id", "ra", "dec")
MEMBERS = {f"{name}.npy" for name in ("features", "about", *COLUMNS)}
MAX_ABOUT_CHARACTERS = 100_000
MAX_CODE_POINT = 0x10FFFF

_ALIGNMENT, _LOCAL_HEADER_BYTES = 64, 30
_PADDING_FIELD = 0xD935  # zip's number of the field that aligns a member, as zipalign writes it
_TEXTS = re.compile(r"<U(\d{1,6})")
_UNREADABLE = (zipfile.BadZipFile, struct.error, EOFError, RuntimeError, ValueError)


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
    """

    path: Path
    features: NDArray[np.float32]
    columns: Mapping[str, NDArray]
    about: Mapping[str, Any]


def require_size(images: int, dim: int) -> None:
    """Refuse features that are too many for a file.

    Raises:
        RequestError: more than 2 GB.
    """
    if 4 * images * dim > MAX_NPZ_BYTES:
        raise RequestError(
            f"{images} images of {dim} features are more than 2 GB, the maximum for a .npz file: "
            "embed parts of the folder, each to a file of its own"
        )


def write_npz(path: Path, rows: EmbeddingRows, about: Mapping[str, Any]) -> None:
    """Write embeddings; equal ones give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        blocks = (block.tobytes() for _, block in rows.blocks())
        _write(archive, "features", "<f4", (len(rows), rows.dim), blocks)
        for name, (dtype, texts) in rows.columns().items():
            parts = (texts[i : i + BLOCK_ROWS] for i in range(0, len(texts), BLOCK_ROWS))
            data = (column_values(dtype, part).tobytes() for part in parts)
            _write(archive, name, dtype, (len(texts),), data)
        text = np.array(json.dumps(dict(about)))
        _write(archive, "about", text.dtype.str, (), [text.tobytes()])


def _write(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], data: Iterable[bytes]
) -> None:
    header = io.BytesIO()
    layout = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    member = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date
    start = archive.start_dir + _LOCAL_HEADER_BYTES + len(member.filename) + 4
    padding = -start % _ALIGNMENT
    member.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
    with archive.open(member, "w") as stream:
        stream.write(header.getvalue())
        for part in data:
            stream.write(part)


def is_embeddings(path: Path) -> bool:
    """Return whether a file is one of embeddings, by the names of its arrays."""
    try:
        check_central_directory(path, max_members=len(MEMBERS))
        with zipfile.ZipFile(path) as archive:
            return {"features.npy", "file.npy"} <= {*archive.namelist()} <= MEMBERS
    except (OSError, UnusableFile, *_UNREADABLE):
        return False


def read_embeddings(path: str | Path) -> Embeddings:
    """Open a file of embeddings, of this package or with the arrays `features` and `file`.

    Every byte is read once, to compare checksums; no array is copied to memory.

    Raises:
        RequestError: no such file.
        DataError: not embeddings, a damaged file, or features that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"{path}: no such file of embeddings: python -m deeplens_tf.embed")
    try:
        check_central_directory(path, max_members=len(MEMBERS))
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _mapped(path, archive, name) for name in _checked_names(archive)}
        return _embeddings(path, arrays)
    except (UnusableFile, *_UNREADABLE) as error:
        raise DataError(f"{path}: not embeddings: {error}") from error


def _checked_names(archive: zipfile.ZipFile) -> list[str]:
    names = archive.namelist()
    if len(set(names)) != len(names) or not {"features.npy", "file.npy"} <= {*names} <= MEMBERS:
        found = ", ".join(sorted(names))[:200] or "nothing"
        raise UnusableFile(f"it holds {found}; embeddings hold features.npy and file.npy")
    return names


def _mapped(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray:
    """Map one array into memory, after its size and its checksum were compared."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise UnusableFile(f"{name} is compressed, which embed never does")
    with archive.open(member) as stream:  # which compares the checksum at the end
        while stream.read(READ_CHUNK_BYTES):
            pass
    with StoredMember(path, member) as stored:
        layout, offset = split_header(stored.read(FIRST_READ_BYTES) or b"")
        start = stored.start + offset
    dtype = _dtype_of(name, layout.descr)
    if math.prod(layout.shape) * dtype.itemsize != member.file_size - offset:
        raise UnusableFile(f"the header of {name} does not match its size")
    if layout.fortran_order and len(layout.shape) > 1:
        raise UnusableFile(f"{name} is in Fortran order")
    if 0 in layout.shape:
        raise UnusableFile(f"{name} is empty")
    return np.memmap(path, dtype, "r", start, layout.shape)


def _dtype_of(name: str, descr: str) -> np.dtype:
    if name == "features.npy":
        if descr != "<f4":
            raise UnusableFile(f"features of the type {descr[:20]!r} instead of float32")
        return np.dtype(descr)
    if not (_TEXTS.fullmatch(descr) or (name in ("ra.npy", "dec.npy") and descr == "<f8")):
        raise UnusableFile(f"{name} of the type {descr[:20]!r} instead of text")
    return np.dtype(descr)


def _embeddings(path: Path, arrays: Mapping[str, NDArray]) -> Embeddings:
    found = {name.removesuffix(".npy"): array for name, array in arrays.items()}
    features, about = found.pop("features"), found.pop("about", None)
    if features.ndim != 2 or any(each.shape != features.shape[:1] for each in found.values()):
        shapes = {name.removesuffix(".npy"): array.shape for name, array in arrays.items()}
        raise UnusableFile(f"features need (images, dim) and the others (images,), not {shapes}")
    for name, array in found.items():
        _require_text(name, array)
    for start, block in _blocks(features):
        if not np.isfinite(block).all():
            row = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise UnusableFile(f"the features of row {row} are not finite")
    return Embeddings(path, features, found, {} if about is None else _parsed(about))


def _require_text(name: str, array: NDArray) -> None:
    """Refuse numbers that are no characters, which NumPy stores as they are."""
    for _, block in _blocks(array) if array.dtype.kind == "U" else ():
        if block.size and np.ascontiguousarray(block).view("<u4").max() > MAX_CODE_POINT:
            raise UnusableFile(f"{name} is damaged: not characters")


def _blocks(array: NDArray) -> Iterator[tuple[int, NDArray]]:
    for start in range(0, len(array), BLOCK_ROWS):
        yield start, np.asarray(array[start : start + BLOCK_ROWS])


def _parsed(about: NDArray) -> Mapping[str, Any]:
    if about.shape != () or about.dtype.itemsize > 4 * MAX_ABOUT_CHARACTERS:
        raise UnusableFile("about is no text")
    _require_text("about", about.reshape(1))
    values = json.loads(str(about[()]))
    if not isinstance(values, dict):
        raise UnusableFile("about is no JSON object")
    return values
