"""The files that TensorBoard's projector reads: vectors, a table about them and a sprite.

`write_projector_files` is used for the embeddings of a training run and for maps of embeddings.
`tensorboard --logdir FOLDER` opens the folder. Where the log directory is further up, the folder
must also contain an event file, since TensorBoard looks for the projector's files beside those.
The files of vectors and of the table can be loaded at projector.tensorflow.org too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.figures.image_grids import image_colours
from deeplens_tf.figures.picture_files import png_of
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.terminal import printable

CONFIG_FILE = "projector_config.pbtxt"  # the name that TensorBoard looks for
MAX_SPRITE_SIDE = 8192  # pixels; the projector shows no larger picture
NO_VALUE = "-"


def write_projector_files(
    folder: Path,
    vectors: ArrayLike,
    columns: Mapping[str, Sequence[object]],
    thumbnails: NDArray[np.uint8] | None = None,
    name: str = "features",
) -> None:
    """Write `<name>.tsv`, `<name>_columns.tsv`, `<name>.png` and `projector_config.pbtxt`.

    Each file is replaced completely or not at all, the configuration last.

    Args:
        folder: existing; a configuration in it is replaced.
        vectors: shape (n, dimensions); written as text with 6 significant digits, since
            TensorBoard may mistake a binary file for text.
        columns: name -> n values, at least one column. An empty value becomes "-", since the
            projector passes over empty lines.
        thumbnails: shape (n, side, side, 3), see `thumbnails_of`; None for no sprite.
        name: of the embedding in the projector.

    Raises:
        ValueError: no vectors or no columns, other lengths, or a sprite that is too large.
        OSError: the folder cannot be written to.
    """
    vectors = np.asarray(vectors, np.float32)
    _require_match(vectors, columns, thumbnails)
    rows = [[f"{value:.6g}" for value in vector] for vector in vectors]
    _write(folder / f"{name}.tsv", _tsv(rows))
    _write(folder / f"{name}_columns.tsv", _tsv(_table(columns)))
    if thumbnails is not None:
        _write(folder / f"{name}.png", png_of(sprite(thumbnails)))
    _write(folder / CONFIG_FILE, _config(name, vectors.shape, thumbnails).encode())


def thumbnail_side(count: int, largest: int = 64) -> int:
    """Return the side in pixels of thumbnails of which `count` fit into a sprite."""
    return max(1, min(largest, MAX_SPRITE_SIDE // _per_row(count)))


def thumbnails_of(images: Iterable[ArrayLike], side: int) -> NDArray[np.uint8]:
    """Return images as thumbnails, each drawn as in `image_grid` with the nearest pixels.

    Args:
        images: n arrays of shape (H, W) or (H, W, bands).
        side: of a thumbnail, in pixels.

    Returns:
        Shape (n, side, side, 3).
    """
    return np.stack([_resized(image_colours(image), side) for image in images])


def sprite(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return thumbnails side by side in a square, row by row as the projector reads them.

    Args:
        thumbnails: shape (n, side, side, 3).

    Returns:
        Shape (rows * side, rows * side, 3), black where no thumbnail is left.
    """
    count, side = thumbnails.shape[:2]
    rows = _per_row(count)
    empty = np.zeros((rows**2 - count, *thumbnails.shape[1:]), np.uint8)
    grid = np.concatenate([thumbnails, empty]).reshape(rows, rows, side, side, -1)
    return grid.swapaxes(1, 2).reshape(rows * side, rows * side, -1)


def _per_row(count: int) -> int:
    return math.isqrt(max(count, 1) - 1) + 1  # the square root, rounded up


def _resized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    rows, columns = ((np.arange(side) * size) // side for size in picture.shape[:2])
    return picture[rows][:, columns]


def _require_match(
    vectors: NDArray[np.float32],
    columns: Mapping[str, Sequence[object]],
    thumbnails: NDArray[np.uint8] | None,
) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if thumbnails is not None:
        lengths["thumbnails"] = len(thumbnails)
    if (
        vectors.ndim != 2
        or not vectors.size
        or not columns
        or set(lengths.values()) != {len(vectors)}
    ):
        raise ValueError(
            "vectors must have shape (n, dimensions) and be as many as the values of each column. "
            f"Received: shape={vectors.shape}, {lengths}"
        )
    if thumbnails is not None and thumbnails.shape[1] > thumbnail_side(len(vectors), 10**6):
        raise ValueError(
            f"thumbnails must fit into a sprite of {MAX_SPRITE_SIDE} pixels. "
            f"Received: shape={thumbnails.shape}"
        )


def _table(columns: Mapping[str, Sequence[object]]) -> list[list[str]]:
    """Return the rows of the table; the projector expects a header above two columns or more."""
    header = [[printable(name) for name in columns]] if len(columns) > 1 else []
    values = zip(*columns.values(), strict=True)
    return header + [[printable(value).strip() or NO_VALUE for value in row] for row in values]


def _tsv(rows: Iterable[Iterable[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def _config(name: str, shape: tuple[int, ...], thumbnails: NDArray[np.uint8] | None) -> str:
    """Return the text format of TensorBoard's `ProjectorConfig`, with relative paths."""
    lines = [
        f'tensor_name: "{name}"',
        *(f"tensor_shape: {length}" for length in shape),
        f'tensor_path: "{name}.tsv"',
        f'metadata_path: "{name}_columns.tsv"',
    ]
    if thumbnails is not None:
        height, width = thumbnails.shape[1:3]
        size = f"single_image_dim: {width} single_image_dim: {height}"
        lines.append(f'sprite {{ image_path: "{name}.png" {size} }}')
    return "\n".join(["embeddings {", *(f"  {line}" for line in lines), "}", ""])


def _write(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content))
