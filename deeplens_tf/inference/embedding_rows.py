"""The rows of embeddings: while they are made, features on disk and names in memory; as read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.catalog import NO_NUMBER
from deeplens_tf.data.catalog_rows import is_number
from deeplens_tf.errors import UnusableFile

BLOCK_ROWS = 8192  # that are in memory while a file is written
COLUMNS = ("file", "id", "ra", "dec")


class ReadRows(NamedTuple):
    """What a file of embeddings holds: see `Embeddings`."""

    features: NDArray[np.float32]
    columns: Mapping[str, NDArray]
    about: Mapping[str, Any]
    checksum: int


def parsed_about(text: str) -> Mapping[str, Any]:
    """Return how embeddings were made, from a text in JSON.

    Raises:
        UnusableFile: no JSON object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"about is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UnusableFile("about is no JSON object")
    return values


class EmbeddingRows:
    """Collects the features of images in a file, and what the images are called in memory.

    Args:
        stream: an empty file, open for writing and reading.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.dim = 0
        self.texts: dict[str, list[str]] = {"file": []}

    def __len__(self) -> int:
        return len(self.texts["file"])

    def add(
        self,
        features: NDArray[np.float32],
        files: Sequence[str],
        places: Mapping[str, Sequence[str]],
    ) -> None:
        """Append images.

        Args:
            features: shape (images, dim).
            files: their names.
            places: what a catalogue says of them, the same columns for all images.
        """
        self.dim = features.shape[1]
        self._stream.write(features.astype("<f4").tobytes())
        for name, values in {"file": files, **places}.items():
            self.texts.setdefault(name, []).extend(values)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the features of some rows at once, with which rows these are."""
        self._stream.seek(0)
        for start in range(0, len(self), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(self)))
            data = self._stream.read(4 * self.dim * (rows.stop - rows.start))
            yield rows, np.frombuffer(data, "<f4").reshape(-1, self.dim)

    def columns(self) -> dict[str, tuple[str, list[str]]]:
        """Return the type of each column but the features, and its values as texts.

        Coordinates are numbers, float64, if all of them are; other columns are texts of one width.
        """
        return {name: (_dtype(name, texts), texts) for name, texts in self.texts.items()}


def column_values(dtype: str, texts: Sequence[str]) -> NDArray:
    """Return the values of a column; a missing number is NaN."""
    if dtype == "<f8":
        texts = ["nan" if text.lower() in NO_NUMBER else text for text in texts]
        return np.array([float(text) for text in texts], dtype)
    return np.array(texts, dtype)


def _dtype(name: str, texts: Sequence[str]) -> str:
    if name in ("ra", "dec") and all(map(is_number, texts)):
        return "<f8"
    return f"<U{max(map(len, texts), default=0) or 1}"
