"""What a catalogue says of each image of a split, as text: `<split>-catalog.csv`."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens_tf.data.manifest import PREPARE_AGAIN, Manifest
from deeplens_tf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

MAX_TEXTS_BYTES = 1 << 20  # of a row: 1000 columns of at most 200 characters


def texts_name(split: str) -> str:
    """Return the file name of the table of a split's kept columns."""
    return f"{split}-catalog.csv"


class TextsWriter:
    """Writes the kept columns of a split, one row for each example; without any, no file.

    Args:
        folder: the folder to write to.
        split: name of the split.
        columns: names of the columns.
    """

    def __init__(self, folder: Path, split: str, columns: Sequence[str]) -> None:
        self._stream = None
        if columns:
            path = folder / texts_name(split)
            self._stream = path.open("w", encoding="utf-8", newline="")
            self._rows = csv.writer(self._stream, lineterminator="\n")
            self._rows.writerow(columns)

    def add(self, texts: Sequence[str]) -> None:
        """Append the row of an example."""
        if self._stream is not None:
            self._rows.writerow(texts)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def texts_digests(folder: Path, splits: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the table of each split, by the split's name."""
    return {split: _sha256(folder / texts_name(split)) for split in splits}


def verify_texts(folder: Path, manifest: Manifest) -> None:
    """Check the tables of the kept columns against their digests.

    Raises:
        DataError: one is missing or has been changed.
    """
    digests = manifest.catalog.sha256 if manifest.catalog else {}
    for split, digest in digests.items():
        path = folder / texts_name(split)
        if not path.is_file():
            raise DataError(f"{path}: missing; {PREPARE_AGAIN}")
        largest = MAX_TEXTS_BYTES * (manifest.splits[split].count + 1)
        if path.stat().st_size > largest or _sha256(path) != digest:
            raise DataError(f"{path}: changed since it was written; {PREPARE_AGAIN}")


def read_texts(folder: Path, split: str, count: int, columns: Sequence[str]) -> "pd.DataFrame":
    """Read some of the kept columns of a split, as texts; "" where there is no value.

    Args:
        folder: a prepared folder that `verify_texts` has accepted.
        split: name of the split.
        count: number of its images.
        columns: which are kept.

    Raises:
        DataError: the table cannot be read, or has another number of rows.
    """
    import pandas as pd

    if not columns:  # a catalogue may have none that are kept
        return pd.DataFrame(index=range(count))
    path = folder / texts_name(split)
    try:
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            usecols=list(columns),
            nrows=count + 1,
            skip_blank_lines=False,
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(table) != count:
        raise DataError(f"{path}: not the table of the split's {count} images; {PREPARE_AGAIN}")
    return table[list(columns)]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
