"""A check of every example in a prepared folder, which may be untrusted.

The manifest's digests prove that a folder is unchanged since it was written. They do not prove that
its author was honest. TensorFlow therefore reads only shards that have passed these checks.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import Manifest, Shard, Split
from deeplens_tf.data.shards import (
    MAX_METADATA_BYTES,
    RECORD_FRAME_BYTES,
    image_bytes_of,
    parse_example,
)
from deeplens_tf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BATCH_BYTES = 16 << 20
MAX_BATCH_EXAMPLES = 1024

# A record: its length, a checksum of the length, the bytes, a checksum of the bytes.
_HEAD = struct.Struct("<Q4x")


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Check every example of a prepared folder against the manifest and the index.

    Args:
        folder: a prepared folder that `verify_shards` has accepted.
        manifest: its manifest.

    Raises:
        DataError: naming the first difference from what this package writes.
    """
    image_bytes = image_bytes_of(manifest)
    for split in manifest.splits.values():
        for shard in split.shards:
            _check_lengths(folder / shard.file, shard, image_bytes)
        if split.shards:
            _check_examples(folder, split, manifest)


def _check_lengths(path: Path, shard: Shard, image_bytes: int) -> None:
    """Check the lengths only: TensorFlow allocates the memory that a record declares."""
    found = 0
    with path.open("rb") as stream:
        for length in _record_lengths(stream, path.stat().st_size):
            found += 1
            # Stop at the first wrong length: a sparse file could contain millions of them.
            if found > shard.count or not 0 <= length - image_bytes <= MAX_METADATA_BYTES:
                raise DataError(f"{path}: not the {shard.count} records that the manifest lists")
    if found < shard.count:
        raise DataError(f"{path}: {found} records, not the {shard.count} that the manifest lists")


def _record_lengths(stream: BinaryIO, size: int) -> Iterator[int]:
    """Yield the length of each record; -1 for a last one that exceeds the file."""
    offset = 0
    while offset < size:
        stream.seek(offset)
        head = stream.read(_HEAD.size)
        length = _HEAD.unpack(head)[0] if len(head) == _HEAD.size else size
        offset += length + RECORD_FRAME_BYTES
        yield length if offset <= size else -1


def _check_examples(folder: Path, split: Split, manifest: Manifest) -> None:
    import tensorflow as tf

    index = read_index(folder, split.name, split.count)
    try:
        for first, batch in _batches(folder, split, manifest):
            _check_batch(batch, index[first : first + len(batch["label"])], manifest)
    except (tf.errors.OpError, ValueError) as error:
        reason = getattr(error, "message", str(error))
        raise DataError(f"{folder}: damaged {split.name} split: {reason:.200}") from error


def _batches(
    folder: Path, split: Split, manifest: Manifest
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield the position of each batch's first example, and the parsed batch."""
    import tensorflow as tf

    size = max(1, min(MAX_BATCH_EXAMPLES, BATCH_BYTES // image_bytes_of(manifest)))
    records = tf.data.TFRecordDataset([str(folder / shard.file) for shard in split.shards])
    parsed = records.batch(size).map(lambda batch: parse_example(batch, manifest.stored_shape))
    for i, batch in enumerate(parsed.as_numpy_iterator()):
        yield i * size, batch


def _check_batch(batch: dict[str, np.ndarray], rows: "pd.DataFrame", manifest: Manifest) -> None:
    images, labels, masses = batch["image"], batch["label"], batch["mass_ev"]
    # A NaN anywhere makes the minimum NaN, for which the comparison is false.
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("pixel values outside of 0 to 1")
    lowest, highest = (0, len(manifest.classes) - 1) if manifest.classes else (-1, -1)
    if labels.min() < lowest or labels.max() > highest:
        raise ValueError("a label without a class")
    if not (np.isnan(masses) | ((masses > 0) & np.isfinite(masses))).all():
        raise ValueError("a mass that is not a positive number")
    _check_index(batch, rows)


def _check_index(batch: dict[str, np.ndarray], rows: "pd.DataFrame") -> None:
    names = [name.encode("utf-8", "surrogateescape") for name in rows["file"]]
    same = (
        np.array_equal(batch["index"], rows["index"])
        and np.array_equal(batch["label"], rows["label"])
        and np.array_equal(batch["mass_ev"], rows["mass_ev"], equal_nan=True)
        and batch["file"].tolist() == names
    )
    if not same:
        raise ValueError("the index lists other images than the shards")
