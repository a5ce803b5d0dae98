"""TFRecord shards: writing and reading of examples, and detection of changes.

An example stores the image as raw little-endian float32, and its mass as raw float64: the float
lists of TensorFlow's examples are float32, too coarse for a mass.
"""

import csv
import hashlib
import math
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens_tf.data.example_records import example_record
from deeplens_tf.data.manifest import PREPARE_AGAIN, SPLITS, Manifest, Shard, Split, is_sha256
from deeplens_tf.data.record_files import write_records
from deeplens_tf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf

MAX_SHARD_BYTES = 64 << 20
MAX_SHARD_EXAMPLES = 2048
MAX_METADATA_BYTES = 64 << 10  # of a record without its image: keys, file name, label, mass
RECORD_FRAME_BYTES = 16  # what TFRecord adds: a length, and checksums of it and of the record
MAX_ROW_BYTES = 4500  # of the index: a path has at most 4096
INDEX_COLUMNS = ["index", "file", "label", "mass_ev", "content"]


@dataclass(frozen=True)
class Example:
    """An image ready to be written: (S, S, C) float32; label -1 and mass NaN if unknown.

    The image has the margin of its folder's manifest. `content` and `typed_content` are digests of
    the source image, see `content`, which do not depend on any setting.
    """

    image: np.ndarray
    label: int
    mass_ev: float
    file: str
    content: str = ""
    typed_content: bytes = b""


class SplitWriter:
    """Writes one split's shards and index, one example at a time.

    Args:
        folder: the folder to write to.
        name: name of the split, with which the file names begin.
        classes: in label order.
    """

    def __init__(self, folder: Path, name: str, classes: tuple[str, ...]) -> None:
        self.folder, self.name, self.classes = folder, name, classes
        self.shards: list[Shard] = []
        self.labels: Counter[int] = Counter()
        self.masses = 0
        self._digests: list[bytes] = []
        self._records: list[bytes] = []
        self._bytes = 0
        self._index = (folder / index_name(name)).open(
            "w", encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._rows = csv.writer(self._index, lineterminator="\n")
        self._rows.writerow(INDEX_COLUMNS)

    @property
    def count(self) -> int:
        """Number of examples so far."""
        return self.labels.total()

    def add(self, example: Example) -> None:
        """Append an example to the split."""
        known = not math.isnan(example.mass_ev)
        mass = repr(float(example.mass_ev)) if known else ""
        row = [self.count, example.file, example.label, mass, example.content]
        self._rows.writerow(row)
        record = serialize(example, self.count)
        if self._bytes + len(record) > MAX_SHARD_BYTES or len(self._records) == MAX_SHARD_EXAMPLES:
            self._flush()
        self._records.append(record)
        self._bytes += len(record)
        self.labels[example.label] += 1
        self.masses += known
        self._digests.append(example_digest(example))

    def finish(self) -> Split:
        """Write the remaining examples and return the split's entry in the manifest."""
        if self._records:
            self._flush()
        self.close()
        per_class = {name: self.labels[label] for label, name in enumerate(self.classes)}
        content = hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()
        return Split(self.name, self.count, per_class, self.masses, tuple(self.shards), content)

    def close(self) -> None:
        """Close the index; sufficient if the split is discarded."""
        self._index.close()

    def _flush(self) -> None:
        path = self.folder / f"{self.name}-{len(self.shards):05d}.tfrecord"
        sha256 = write_records(path, self._records)
        self.shards.append(Shard(path.name, len(self._records), sha256))
        self._records, self._bytes = [], 0


def write_splits(
    folder: Path, classes: tuple[str, ...], examples: Iterable[tuple[str, Example]]
) -> dict[str, Split]:
    """Write examples to the shards and indices of their splits, in the order given.

    Args:
        folder: the folder to write to.
        classes: in label order; empty for unlabelled data.
        examples: pairs of the name of a split and an example.

    Returns:
        The splits that have examples, by name.
    """
    writers: dict[str, SplitWriter] = {}
    with ExitStack() as stack:
        for name, example in examples:
            if name not in writers:
                writers[name] = SplitWriter(folder, name, classes)
                stack.callback(writers[name].close)
            writers[name].add(example)
        return {name: writers[name].finish() for name in SPLITS if name in writers}


def example_digest(example: Example) -> bytes:
    """Return a digest of an example's source image, class and mass, without its file name."""
    label_and_mass = b"%d %a" % (example.label, example.mass_ev)
    return hashlib.sha256(label_and_mass + example.typed_content).digest()


def serialize(example: Example, index: int) -> bytes:
    """Return an example's record; equal examples give equal bytes."""
    return example_record(
        {
            "image": example.image.astype("<f4", copy=False).tobytes(),
            "label": example.label,
            "mass_ev": struct.pack("<d", example.mass_ev),
            "index": index,
            "file": example.file.encode("utf-8", "surrogateescape"),
        }
    )


def parse_example(serialized: "tf.Tensor", image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Parse one record, or a batch of records, inside or outside `tf.data`.

    Args:
        serialized: string tensor, shape () or (batch,).
        image_shape: (S, S, C) of the images in the shards, `Manifest.stored_shape`.

    Returns:
        Tensors with the leading axes of `serialized`: `image` float32 (S, S, C), `label` int64
        (-1 unknown), `mass_ev` float64 in eV (NaN unknown), `index` int64 (position within the
        split), `file` string.
    """
    import tensorflow as tf

    kinds = {"image": tf.string, "mass_ev": tf.string, "file": tf.string}
    kinds |= {"label": tf.int64, "index": tf.int64}
    parsed = tf.io.parse_example(
        serialized, {key: tf.io.FixedLenFeature([], kind) for key, kind in kinds.items()}
    )
    leading = tf.shape(serialized)
    image = tf.io.decode_raw(parsed["image"], tf.float32)  # (..., S * S * C)
    image = tf.reshape(image, tf.concat([leading, image_shape], axis=0))
    mass_ev = tf.reshape(tf.io.decode_raw(parsed["mass_ev"], tf.float64), leading)
    return parsed | {
        "image": tf.ensure_shape(image, [*serialized.shape, *image_shape]),
        "mass_ev": tf.ensure_shape(mass_ev, serialized.shape),
    }


def parse_index(serialized: "tf.Tensor") -> "tf.Tensor":
    """Parse only the index of records, string (batch,); see `parse_example`."""
    import tensorflow as tf

    return tf.io.parse_example(serialized, {"index": tf.io.FixedLenFeature([], tf.int64)})["index"]


def index_name(split: str) -> str:
    """Return the file name of a split's index, the table of its images."""
    return f"{split}-index.csv"


def read_index(folder: Path, split: str, count: int) -> "pd.DataFrame":
    """Read the table of a split's images: index, file, label, mass_ev (NaN unknown), content.

    `content` is the digest of each source image, "" in a folder of an earlier version.

    Args:
        folder: a prepared folder.
        split: name of the split.
        count: number of images in the split; at most one more row is read.

    Raises:
        DataError: the table is missing, damaged or of another length.
    """
    path = folder / index_name(split)
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise DataError(f"{path}: cannot be read: not a regular file")
    try:
        if path.stat().st_size > MAX_ROW_BYTES * (count + 1):
            raise DataError(f"{path}: too large for the table of {count} images")
        _check_rows(path)
        index = _parse_index(path, count + 1)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(index) != count or index["index"].tolist() != list(range(count)):
        raise DataError(f"{path}: not the table of {count} images; {PREPARE_AGAIN}")
    if not all(map(is_sha256, index["content"][index["content"] != ""])):
        raise DataError(f"{path}: a content is not SHA-256; {PREPARE_AGAIN}")
    return index


def _check_rows(path: Path) -> None:
    """Refuse very long lines, such as the gap of a sparse file: pandas would read one name."""
    limit = 2 * MAX_ROW_BYTES  # quotation marks are doubled
    with path.open("rb") as stream:
        while line := stream.readline(limit):
            if len(line) == limit:
                raise DataError(f"{path}: a line of {limit} bytes or more; {PREPARE_AGAIN}")


def _parse_index(path: Path, rows: int) -> "pd.DataFrame":
    import pandas as pd

    with path.open("rb") as stream:
        has_content = stream.readline(2 * MAX_ROW_BYTES).rstrip().endswith(b",content")
    index = pd.read_csv(
        path,
        dtype={"index": "int64", "file": "str", "label": "int64", "content": "str"},
        usecols=INDEX_COLUMNS[: None if has_content else -1],
        # Python's conversion is exact in every version of pandas.
        converters={"mass_ev": lambda text: float(text) if text else math.nan},
        encoding_errors="surrogateescape",
        nrows=rows,
    )
    # A table of an earlier version has no content.
    content = index["content"].fillna("") if has_content else ""
    return index.assign(content=content)[INDEX_COLUMNS]


def verify_shards(folder: Path, manifest: Manifest) -> None:
    """Check every shard against its digest.

    Raises:
        DataError: naming the first shard that is missing or changed.
    """
    image_bytes = image_bytes_of(manifest)
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        path = folder / shard.file
        if not path.is_file():
            raise DataError(f"{path}: missing; {PREPARE_AGAIN}")
        # Before the digest: a sparse file may have terabytes that take no space on the disk.
        if not _is_possible_size(path.stat().st_size, shard.count, image_bytes):
            reason = f"its size is not that of {shard.count} images"
            raise DataError(f"{path}: changed since it was written, {reason}; {PREPARE_AGAIN}")
        if _sha256(path) != shard.sha256:
            raise DataError(f"{path}: changed since it was written; {PREPARE_AGAIN}")


def image_bytes_of(manifest: Manifest) -> int:
    """Return the number of bytes of an image in a record."""
    return 4 * math.prod(manifest.stored_shape)


def _is_possible_size(size: int, count: int, image_bytes: int) -> bool:
    """Return whether this package could write `count` images to a shard of `size` bytes."""
    max_record = image_bytes + MAX_METADATA_BYTES
    max_bytes = min(count * max_record, max(MAX_SHARD_BYTES, max_record))
    records_bytes = size - count * RECORD_FRAME_BYTES
    return count <= MAX_SHARD_EXAMPLES and count * image_bytes <= records_bytes <= max_bytes


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
