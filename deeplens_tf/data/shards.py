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

from deeplens_tf.data.catalog_texts import TextsWriter
from deeplens_tf.data.example_records import example_record
from deeplens_tf.data.index_tables import INDEX_COLUMNS, index_name
from deeplens_tf.data.manifest import PREPARE_AGAIN, SPLITS, Manifest, Shard, Split
from deeplens_tf.data.record_files import write_records
from deeplens_tf.errors import DataError
from deeplens_tf.terminal import counted

if TYPE_CHECKING:
    import tensorflow as tf

MAX_SHARD_BYTES = 64 << 20
MAX_SHARD_EXAMPLES = 2048
MAX_METADATA_BYTES = 64 << 10  # of a record without its image: keys, file name, label, mass
RECORD_FRAME_BYTES = 16  # what TFRecord adds: a length, and checksums of it and of the record


@dataclass(frozen=True)
class Example:
    """An image ready to be written: (S, S, C) float32; label -1 and mass NaN if unknown.

    The image has the margin of its folder's manifest. `content` and `typed_content` are digests of
    the source image, see `content`, which do not depend on any setting. `object` is "" if unknown.
    """

    image: np.ndarray
    label: int
    mass_ev: float
    file: str
    content: str = ""
    typed_content: bytes = b""
    object: str = ""
    texts: tuple[str, ...] = ()  # of the columns of a catalogue that are kept


class SplitWriter:
    """Writes one split's shards and index, one example at a time.

    The examples of an object, which follow each other, are never cut over two shards.

    Args:
        folder: the folder to write to.
        name: name of the split, with which the file names begin.
        classes: in label order.
        with_objects: whether the index has a column with the examples' objects.
        columns: of a catalogue, whose texts a table of their own has.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        classes: tuple[str, ...],
        with_objects: bool = False,
        columns: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.name, self.classes = folder, name, classes
        self._with_objects = with_objects
        self.shards: list[Shard] = []
        self.labels: Counter[int] = Counter()
        self.masses = 0
        self._digests: list[bytes] = []
        self._records: list[bytes] = []
        self._bytes = 0
        self._object = ""
        self._of_object: list[bytes] = []  # records that may not be complete
        self._index = (folder / index_name(name)).open(
            "w", encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._rows = csv.writer(self._index, lineterminator="\n")
        self._rows.writerow(INDEX_COLUMNS[: None if with_objects else -1])
        self._texts = TextsWriter(folder, name, columns)

    @property
    def count(self) -> int:
        """Number of examples so far."""
        return self.labels.total()

    def add(self, example: Example) -> None:
        """Append an example to the split.

        Raises:
            DataError: an object has more examples than fit into a shard.
        """
        known = not math.isnan(example.mass_ev)
        mass = repr(float(example.mass_ev)) if known else ""
        row = [self.count, example.file, example.label, mass, example.content]
        self._rows.writerow(row + [example.object] * self._with_objects)
        self._texts.add(example.texts)
        if not example.object or example.object != self._object:
            self._finish_object()
        self._object = example.object
        self._of_object.append(serialize(example, self.count))
        self._require_room()
        self.labels[example.label] += 1
        self.masses += known
        self._digests.append(example_digest(example))

    def finish(self) -> Split:
        """Write the remaining examples and return the split's entry in the manifest."""
        self._finish_object()
        if self._records:
            self._flush()
        self.close()
        per_class = {name: self.labels[label] for label, name in enumerate(self.classes)}
        content = hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()
        return Split(self.name, self.count, per_class, self.masses, tuple(self.shards), content)

    def close(self) -> None:
        """Close the index; sufficient if the split is discarded."""
        self._index.close()
        self._texts.close()

    def _require_room(self) -> None:
        size, count = sum(map(len, self._of_object)), len(self._of_object)
        if count > MAX_SHARD_EXAMPLES or (count > 1 and size > MAX_SHARD_BYTES):
            raise DataError(
                f"object {self._object!r} has more images than a shard holds, "
                f"{MAX_SHARD_EXAMPLES} or {MAX_SHARD_BYTES >> 20} MB: leave some out of "
                "objects.csv, or set a smaller data.image_size"
            )

    def _finish_object(self) -> None:
        """Add the records of one object to the shard, or to a new one if they do not fit."""
        size, count = sum(map(len, self._of_object)), len(self._of_object)
        if self._bytes + size > MAX_SHARD_BYTES or len(self._records) + count > MAX_SHARD_EXAMPLES:
            self._flush()
        self._records += self._of_object
        self._bytes += size
        self._of_object = []

    def _flush(self) -> None:
        path = self.folder / f"{self.name}-{len(self.shards):05d}.tfrecord"
        sha256 = write_records(path, self._records)
        self.shards.append(Shard(path.name, len(self._records), sha256))
        self._records, self._bytes = [], 0


def write_splits(
    folder: Path,
    classes: tuple[str, ...],
    examples: Iterable[tuple[str, Example]],
    with_objects: bool = False,
    columns: tuple[str, ...] = (),
) -> dict[str, Split]:
    """Write examples to the shards and indices of their splits, in the order given.

    Args:
        folder: the folder to write to.
        classes: in label order; empty for unlabelled data.
        examples: pairs of the name of a split and an example; those of an object follow each other.
        with_objects: whether the indices have a column with the examples' objects.
        columns: of a catalogue, whose texts the examples have.

    Returns:
        The splits that have examples, by name.
    """
    writers: dict[str, SplitWriter] = {}
    with ExitStack() as stack:
        for name, example in examples:
            if name not in writers:
                writers[name] = SplitWriter(folder, name, classes, with_objects, columns)
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
            reason = f"its size is not that of {counted(shard.count, 'image')}"
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
