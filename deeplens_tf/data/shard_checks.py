"""Reading a prepared folder through before anything is made of it: it may be a stranger's.

The manifest's digests tell that nothing has changed since it was written, not that whoever wrote it
meant well. What TensorFlow is given to read has been looked at here first.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from deeplens_tf.data.manifest import Manifest, Shard, Split
from deeplens_tf.data.shards import MAX_BEYOND_IMAGE, image_bytes_of, parse_example, read_index
from deeplens_tf.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BATCH_BYTES = 16 << 20

# A record: its length, a checksum of that, the bytes, a checksum of those.
_HEAD = struct.Struct("<Q4x")
_TAIL_BYTES = 4


def examine(folder: Path, manifest: Manifest) -> None:
    """Read every example of a prepared folder and hold it to the manifest and the index.

    Args:
        folder: whose shards have the manifest's digests.
        manifest: of that folder.

    Raises:
        DataError: naming what is not as this package writes it.
    """
    image_bytes = image_bytes_of(manifest)
    for split in manifest.splits.values():
        for shard in split.shards:
            _check_lengths(folder / shard.file, shard, image_bytes)
        if split.shards:
            _check_examples(folder, split, manifest)


def _check_lengths(path: Path, shard: Shard, image_bytes: int) -> None:
    """Look at the lengths alone: TensorFlow takes whatever memory a record says it needs."""
    found = 0
    with path.open("rb") as stream:
        for length in _lengths(stream, path.stat().st_size):
            found += 1
            # At the first that does not fit: the rest may go on for as long as the file does.
            if found > shard.count or not 0 <= length - image_bytes <= MAX_BEYOND_IMAGE:
                raise DataError(f"{path}: not the {shard.count} records that it should hold")
    if found < shard.count:
        raise DataError(f"{path}: {found} records, not the {shard.count} that it should hold")


def _lengths(stream: BinaryIO, size: int) -> Iterator[int]:
    """Yield each record's length; -1 at the end for one that goes beyond the file."""
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(_HEAD.size)
        length = _HEAD.unpack(head)[0] if len(head) == _HEAD.size else size
        place += _HEAD.size + length + _TAIL_BYTES
        yield length if place <= size else -1


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

    image_bytes = 4 * int(np.prod(manifest.image_shape))
    size = max(1, min(1024, BATCH_BYTES // image_bytes))
    records = tf.data.TFRecordDataset([str(folder / shard.file) for shard in split.shards])
    parsed = records.batch(size).map(lambda part: parse_example(part, manifest.image_shape))
    for i, batch in enumerate(parsed.as_numpy_iterator()):
        yield i * size, batch


def _check_batch(batch: dict[str, np.ndarray], rows: "pd.DataFrame", manifest: Manifest) -> None:
    images, labels, masses = batch["image"], batch["label"], batch["mass_ev"]
    # A NaN anywhere makes the smallest value NaN, which is in no range.
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("values outside of 0 to 1")
    lowest, highest = (0, len(manifest.classes) - 1) if manifest.classes else (-1, -1)
    if labels.min() < lowest or labels.max() > highest:
        raise ValueError("a label of no class")
    if not (np.isnan(masses) | ((masses > 0) & np.isfinite(masses))).all():
        raise ValueError("a mass that is no positive number")
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
        raise ValueError("its index tells of other images")
