"""A split whose decoded images are held in memory; its shards are read only once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from deeplens_tf.augment import without_margin
from deeplens_tf.data.image_data import CHUNK
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.shards import parse_example, verify_shards


@dataclass(frozen=True, eq=False)
class HeldSplit:
    """The examples of a split in the order of its index.

    Attributes:
        images: shape (n, height, width, bands), float32 as in the shards.
        labels: shape (n,), int64.
        masses_ev: shape (n,), float64.
        margin: width in pixels of the margin that `images` have.
    """

    images: tf.Tensor
    labels: tf.Tensor
    masses_ev: tf.Tensor
    margin: int

    def look_up(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the examples of indices (batch,), as `shards.parse_example` does of records."""
        columns = {"image": self.images, "label": self.labels, "mass_ev": self.masses_ev}
        found = {name: tf.gather(values, indices) for name, values in columns.items()}
        return found | {"index": indices}


def read_split(folder: Path, manifest: Manifest, name: str, with_margin: bool) -> HeldSplit:
    """Read all examples of a split.

    Args:
        folder: a prepared folder.
        manifest: of the folder.
        name: of the split.
        with_margin: whether to keep the images' margin.

    Raises:
        DataError: a shard has been changed.
    """
    split, shape = manifest.splits[name], manifest.stored_shape
    records = tf.data.TFRecordDataset([str(folder / shard.file) for shard in split.shards])
    batches = records.batch(CHUNK).map(lambda some: parse_example(some, shape))
    cut = 0 if with_margin else manifest.margin
    images = np.empty((split.count, *without_margin(np.empty(shape), cut).shape), np.float32)
    labels, masses = np.empty(split.count, np.int64), np.empty(split.count, np.float64)
    try:
        for i, batch in enumerate(batches.as_numpy_iterator()):
            rows = slice(i * CHUNK, (i + 1) * CHUNK)
            images[rows] = without_margin(batch["image"], cut)
            labels[rows], masses[rows] = batch["label"], batch["mass_ev"]
    except tf.errors.OpError:
        verify_shards(folder, manifest)
        raise
    with tf.device("CPU:0"):  # where tf.data runs
        columns = tf.constant(images), tf.constant(labels), tf.constant(masses)
    return HeldSplit(*columns, manifest.margin - cut)
