"""Prepared shards to batches, by tf.data.

The order of examples and the views follow from (seed, epoch, index); a stream can therefore
begin at any epoch and give what an uninterrupted run would have given.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from deeplens_tf.augment import one_view, patch_orders, two_views
from deeplens_tf.config import AugmentConfig, Config
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.preparing import ensure_prepared
from deeplens_tf.data.shards import parse_example, read_index
from deeplens_tf.errors import DataError, RequestError

stateless_shuffle = tf.random.experimental.stateless_shuffle
stateless_fold_in = tf.random.experimental.stateless_fold_in

# An epoch is shuffled in windows of this size, on top of the shards' own random order.
SHUFFLE_BYTES = 2**28

Example = Mapping[str, tf.Tensor]


class Position(NamedTuple):
    """Where in a run's stream: steps done in an epoch, and epochs done before it."""

    epoch: int
    step: int


BEGINNING = Position(0, 0)


class Share(NamedTuple):
    """Which of `count` equal parts of every batch, in the batch's order, is made ready."""

    index: int
    count: int


WHOLE = Share(0, 1)


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder, opened, and how a run wants to see it."""

    folder: Path
    manifest: Manifest
    bands: int
    seed: int
    share: Share = WHOLE

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images in a batch."""
        return (*self.manifest.image_shape[:2], self.bands)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order; empty for unlabelled data."""
        return self.manifest.classes

    def count(self, split: str) -> int:
        """Return how many images a split has; 0 where there is no such split."""
        return self.manifest.splits[split].count if split in self.manifest.splits else 0

    def index(self, split: str) -> pd.DataFrame:
        """Return the split's table: index, file, label, mass_ev."""
        return read_index(self.folder, split, self.count(split))


def open_data(config: Config) -> PreparedData:
    """Open the configuration's data, preparing a raw folder first.

    Raises:
        RequestError: no such folder, or more bands asked for than the images have.
        DataError: the images cannot be used.
    """
    data = config.data
    folder = ensure_prepared(
        Path(data.path),
        Path(data.cache),
        image_size=data.image_size,
        fit=data.fit,
        validation_fraction=data.validation_fraction,
        seed=config.seed,
        strict=data.strict,
    )
    manifest = Manifest.load(folder)
    return PreparedData(folder, manifest, _bands(manifest, data.bands), config.seed)


def dataset_facts(data: PreparedData) -> dict[str, object]:
    """Return what a run records of its data: its fingerprint, each split's content and order."""
    contents = {name: split.content for name, split in data.manifest.splits.items()}
    counts = {name: split.count for name, split in data.manifest.splits.items()}
    return {
        "dataset_fingerprint": data.manifest.fingerprint,
        "split_contents": contents,
        "split_orders": {name: _order_digest(data, name) for name in data.manifest.splits},
        "split_counts": counts,
    }


def _order_digest(data: PreparedData, split: str) -> str:
    """Return a digest of where each image of a split is, on which the batches depend.

    By the files' names: the pixels of a resized image may differ by a rounding between two
    processors, on which one run may be prepared and gone on with.
    """
    places = [[shard.count for shard in data.manifest.splits[split].shards]]
    places.append(data.index(split)["file"].tolist())
    return hashlib.sha256(json.dumps(places).encode()).hexdigest()


def pretraining_batches(
    data: PreparedData,
    split: str,
    augment: AugmentConfig,
    batch_size: int,
    epochs: int | None,
    patches: int = 0,
    start: Position = BEGINNING,
) -> tf.data.Dataset:
    """Return batches of views, the image itself and, for labelled data, its label.

    Args:
        data: the opened data.
        split: "train" or "validation".
        augment: the pretexts.
        batch_size: images a batch; what is left over at an epoch's end is dropped.
        epochs: that many shuffled epochs in one stream; None for one pass in stored order.
        patches: patches an image, of which a random order takes the second view's place; 0
            for two views.
        start: where the stream of epochs begins.

    Returns:
        Dicts with `view_1`, `view_2`, `image` (batch, height, width, bands) float32 and,
        where there are classes, `label` (batch,) int64. With `patches`, `patch_order`
        (batch, patches) int32 instead of `view_2`.
    """

    def views(batch: Example, epoch: tf.Tensor) -> Example:
        image, index = batch["image"], batch["index"]
        wanted = {"image": image} | ({"label": batch["label"]} if data.classes else {})
        if patches:
            order = patch_orders(index, data.seed, epoch, patches)
            view_1 = one_view(image, index, data.seed, epoch, 1, augment)
            return wanted | {"view_1": view_1, "patch_order": order}
        view_1, view_2 = two_views(image, index, data.seed, epoch, augment)
        return wanted | {"view_1": view_1, "view_2": view_2}

    return _stream(data, split, batch_size, epochs, views, drop_remainder=True, start=start)


def labelled_batches(
    data: PreparedData,
    split: str,
    target: Callable[[Example], tf.Tensor],
    batch_size: int,
    augment: AugmentConfig | None = None,
    epochs: int | None = None,
    keep: np.ndarray | None = None,
    start: Position = BEGINNING,
) -> tf.data.Dataset:
    """Return batches (image, target) for supervised training and its validation.

    Args:
        data: the opened data.
        split: "train" or "validation".
        target: parsed examples, a batch of them, -> targets.
        batch_size: images a batch. What is left over at the end of a shuffled epoch is dropped,
            so that one shape is compiled; a pass in stored order ends with a smaller batch.
        augment: the pretexts of the one view that is trained on; None for the image itself.
        epochs: that many shuffled epochs in one stream; None for one pass in stored order.
        keep: True for each index of the split that is used, shape (count,); None for all.
        start: where the stream of epochs begins.
    """

    def pairs(batch: Example, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = batch["image"]
        if augment is not None:
            image = one_view(image, batch["index"], data.seed, epoch, 1, augment)
        return image, target(batch)

    whole = epochs is not None
    return _stream(data, split, batch_size, epochs, pairs, keep, drop_remainder=whole, start=start)


def image_batches(
    data: PreparedData, split: str, batch_size: int, keep: np.ndarray | None = None
) -> tf.data.Dataset:
    """Return every image of a split, or those that `keep` chooses, once in the index's order."""
    return _stream(data, split, batch_size, None, lambda batch, epoch: batch["image"], keep)


def require_batch(batch_size: int, count: int, what: str) -> None:
    """Refuse a batch larger than the data.

    Raises:
        RequestError: `batch_size` is larger than `count`.
    """
    if batch_size > count:
        raise RequestError(
            f"train.batch_size {batch_size} is larger than the {count} {what}: "
            f"set it to {count} or less"
        )


def _stream(
    data: PreparedData,
    split: str,
    batch_size: int,
    epochs: int | None,
    finish: Callable[[Example, tf.Tensor], object],
    keep: np.ndarray | None = None,
    drop_remainder: bool = False,
    start: Position = BEGINNING,
) -> tf.data.Dataset:
    """Batches of one pass, or of `epochs` shuffled passes in one stream from `start` on."""

    def batches(epoch: tf.Tensor, shuffle: bool) -> tf.data.Dataset:
        examples = _examples(data, split, keep, epoch if shuffle else None)
        if shuffle and start.step:  # before the views are made, which would be for nothing
            done = tf.where(epoch == start.epoch, start.step * batch_size, 0)
            examples = examples.skip(tf.cast(done, tf.int64))
        batched = _shared(examples.batch(batch_size, drop_remainder), data.share, batch_size)
        return batched.map(lambda batch: finish(batch, epoch), num_parallel_calls=tf.data.AUTOTUNE)

    if epochs is None:
        once = batches(tf.constant(0, tf.int64), shuffle=False)
        full, rest = divmod(data.count(split) if keep is None else int(keep.sum()), batch_size)
        # Keras warns of a stream whose length it does not know; and the length is checked here.
        length = full if drop_remainder else full + (rest > 0)
        stream = once.apply(tf.data.experimental.assert_cardinality(length))
    else:
        following = tf.data.Dataset.range(start.epoch, epochs)
        stream = following.flat_map(lambda epoch: batches(epoch, shuffle=True))
    return stream.prefetch(2)


def _shared(batches: tf.data.Dataset, share: Share, batch_size: int) -> tf.data.Dataset:
    """Leave of each batch one share; of a smaller last batch it may be smaller, or empty."""
    if share == WHOLE:
        return batches
    size = batch_size // share.count
    rows = slice(share.index * size, (share.index + 1) * size)
    return batches.map(lambda batch: {key: values[rows] for key, values in batch.items()})


def _examples(
    data: PreparedData, split: str, keep: np.ndarray | None, epoch: tf.Tensor | None
) -> tf.data.Dataset:
    """Parsed examples in stored order, or shuffled as (seed, epoch) says."""
    shards = data.manifest.splits[split].shards
    if not shards:
        raise DataError(f"{data.folder}: the {split} split is empty")
    files = tf.constant([str(data.folder / shard.file) for shard in shards])
    if epoch is not None:
        files = stateless_shuffle(files, _epoch_key(data.seed, epoch))
    records = tf.data.TFRecordDataset(files)
    if epoch is not None:
        records = _shuffled(data, split, records, epoch)
    examples = records.map(lambda record: _example(data, record), tf.data.AUTOTUNE)
    if keep is None:
        return examples
    mask = tf.constant(keep)
    return examples.filter(lambda example: tf.gather(mask, example["index"]))


def _shuffled(
    data: PreparedData, split: str, records: tf.data.Dataset, epoch: tf.Tensor
) -> tf.data.Dataset:
    """Records in an order that (seed, epoch) gives: all of them, or windows of a bounded size.

    `Dataset.shuffle` cannot take its seed from a tensor, and the epoch is one here.
    """
    image_bytes = 4 * int(np.prod(data.manifest.image_shape))
    window = min(data.count(split), max(SHUFFLE_BYTES // image_bytes, 1))
    key = _epoch_key(data.seed, epoch)
    return (
        records.batch(window)
        .enumerate()
        .map(lambda i, part: stateless_shuffle(part, stateless_fold_in(key, i)))
        .unbatch()
    )


def _example(data: PreparedData, record: tf.Tensor) -> Example:
    example = parse_example(record, data.manifest.image_shape)
    repeats = data.bands // data.manifest.image_shape[2]
    return {**example, "image": tf.tile(example["image"], (1, 1, repeats))}


def _epoch_key(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64), epoch])


def _bands(manifest: Manifest, wanted: int | None) -> int:
    bands = manifest.image_shape[2]
    if wanted not in (None, bands) and bands != 1:
        raise RequestError(
            f"data.bands {wanted}: the images have {bands} bands, and only a grey image is repeated"
        )
    return wanted or bands
