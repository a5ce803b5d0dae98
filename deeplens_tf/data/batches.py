"""Examples to batches, by tf.data.

The order of the examples and the views follow from (seed, epoch, index). A stream can therefore
begin at any epoch and step and continue as an uninterrupted run would.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from deeplens_tf.augment import AUGMENTATIONS, Augment, patch_orders
from deeplens_tf.config import AugmentConfig
from deeplens_tf.data.image_data import WHOLE, Example, ImageData, Share
from deeplens_tf.errors import RequestError


class Position(NamedTuple):
    """Position in the stream of a run: epochs done, and steps done in the epoch after them."""

    epoch: int
    step: int


BEGINNING = Position(0, 0)


def build_augment(config: AugmentConfig) -> Augment:
    """Return the configured augmentations."""
    return Augment([AUGMENTATIONS[name](**_settings(config, name)) for name in config.views])


def _settings(config: AugmentConfig, name: str) -> dict[str, Any]:
    return dict(vars(getattr(config, name))) if hasattr(config, name) else {}


def view_batches(
    data: ImageData,
    augment: Augment,
    batch_size: int = 128,
    *,
    split: str = "train",
    patches: int = 0,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Return the batches of one epoch for Keras's `fit`.

    In the training split they have new views each time the dataset is iterated. It counts its
    epochs: an epoch is over when its last batch has been taken. Other splits have the views of
    epoch 0 each time.

    Args:
        data: from `open_folder` or `from_arrays`.
        augment: makes the views.
        batch_size: images per batch; the remainder of an epoch is dropped.
        split: "train", shuffled in each epoch; any other split comes in stored order.
        patches: patches per image, of which a random order replaces the second view; 0 for two
            views.
        first_epoch: number of the first epoch, to continue an earlier training.

    Returns:
        Dicts with `view_1`, `view_2`, `image` (batch, height, width, bands) float32 and, for
        labelled data, `label` (batch,) int64. With `patches`, `patch_order` (batch, patches)
        int32 instead of `view_2`. The number of batches is known.

    Raises:
        ValueError: not an `Augment`, a split without images, or a batch larger than the split.
    """
    if not isinstance(augment, Augment):
        raise ValueError(f"augment must be an Augment. Received: {augment!r}")
    data.require_images(split)
    if not 1 <= batch_size <= data.count(split):
        raise ValueError(
            f"batch_size must be from 1 to the {data.count(split)} images of the {split} split. "
            f"Received: batch_size={batch_size}"
        )
    steps = data.count(split) // batch_size
    if split != "train":
        return pretraining_batches(data, split, augment, batch_size, None, patches)
    with tf.device("CPU:0"):  # where tf.data runs
        epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def of_next_epoch(_: tf.Tensor) -> tf.data.Dataset:
        current = epoch.read_value()
        return _epoch_of_views(data, split, augment, batch_size, patches, current)

    def count(step: tf.Tensor, batch: Example) -> Example:
        is_last = tf.cast(step == steps - 1, tf.int64)
        with tf.control_dependencies([epoch.assign_add(is_last)]):
            return {name: tf.identity(values) for name, values in batch.items()}

    batches = tf.data.Dataset.from_tensors(0).flat_map(of_next_epoch)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)
    # After the prefetching, so that an epoch counts as over only when its last batch is used.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return batches.enumerate().map(count).with_options(options)


def pretraining_batches(
    data: ImageData,
    split: str,
    augment: Augment,
    batch_size: int,
    epochs: int | None,
    patches: int = 0,
    start: Position = BEGINNING,
) -> tf.data.Dataset:
    """Return batches of views as one stream; their content is that of `view_batches`.

    Args:
        data: the opened data.
        split: "train" or "validation".
        augment: makes the views.
        batch_size: images per batch; the remainder of an epoch is dropped.
        epochs: number of shuffled epochs in the stream; None for one pass in stored order.
        patches: patches per image, of which a random order replaces the second view; 0 for two
            views.
        start: where the stream of epochs begins.
    """
    finish = _views(data, augment, patches)
    return _stream(data, split, batch_size, epochs, finish, drop_remainder=True, start=start)


def labelled_batches(
    data: ImageData,
    split: str,
    target: Callable[[Example], tf.Tensor],
    batch_size: int,
    augment: Augment | None = None,
    epochs: int | None = None,
    keep: np.ndarray | None = None,
    start: Position = BEGINNING,
) -> tf.data.Dataset:
    """Return batches (image, target) for supervised training and its validation.

    Args:
        data: the opened data.
        split: "train" or "validation".
        target: a batch of examples -> targets.
        batch_size: images per batch. The remainder of a shuffled epoch is dropped, so that only
            one shape is compiled; a pass in stored order ends with a smaller batch.
        augment: makes the view that is trained on; None for the image itself.
        epochs: number of shuffled epochs in the stream; None for one pass in stored order.
        keep: True for each index of the split that is used, shape (count,); None for all.
        start: where the stream of epochs begins.
    """

    def pairs(batch: Example, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = batch["image"]
        if augment is not None:
            image = augment.view(image, batch["index"], data.seed, epoch)
        return image, target(batch)

    shuffled = epochs is not None
    return _stream(
        data, split, batch_size, epochs, pairs, keep, drop_remainder=shuffled, start=start
    )


def image_batches(
    data: ImageData, split: str, batch_size: int, keep: np.ndarray | None = None
) -> tf.data.Dataset:
    """Return the images of a split once, in the order of its index.

    Args:
        data: the opened data.
        split: "train", "validation" or "test".
        batch_size: images per batch; the last batch may be smaller.
        keep: True for each index of the split that is used, shape (count,); None for all.

    Returns:
        Batches (batch, height, width, bands), float32 in [0, 1].

    Raises:
        DataError: a split without images.
    """
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


def _views(
    data: ImageData, augment: Augment, patches: int
) -> Callable[[Example, tf.Tensor], Example]:
    """Return the function that adds views to a batch of examples in an epoch."""

    def views(batch: Example, epoch: tf.Tensor) -> Example:
        image, index = batch["image"], batch["index"]
        result = {"image": image} | ({"label": batch["label"]} if data.classes else {})
        if patches:
            order = patch_orders(index, data.seed, epoch, patches)
            view_1 = augment.view(image, index, data.seed, epoch)
            return result | {"view_1": view_1, "patch_order": order}
        view_1, view_2 = augment.two_views(image, index, data.seed, epoch)
        return result | {"view_1": view_1, "view_2": view_2}

    return views


def _epoch_of_views(
    data: ImageData, split: str, augment: Augment, batch_size: int, patches: int, epoch: tf.Tensor
) -> tf.data.Dataset:
    batches = data.examples(split, epoch).batch(batch_size, drop_remainder=True)
    views = _views(data, augment, patches)
    return batches.map(lambda batch: views(batch, epoch), num_parallel_calls=tf.data.AUTOTUNE)


def _stream(
    data: ImageData,
    split: str,
    batch_size: int,
    epochs: int | None,
    finish: Callable[[Example, tf.Tensor], object],
    keep: np.ndarray | None = None,
    drop_remainder: bool = False,
    start: Position = BEGINNING,
) -> tf.data.Dataset:
    """Return the batches of one pass, or of `epochs` shuffled passes from `start` on."""

    def batches(epoch: tf.Tensor, shuffle: bool) -> tf.data.Dataset:
        examples = _chosen(data.examples(split, epoch if shuffle else None), keep)
        if shuffle and start.step:  # skipped before their views are made
            done = tf.where(epoch == start.epoch, start.step * batch_size, 0)
            examples = examples.skip(tf.cast(done, tf.int64))
        batched = _shared(examples.batch(batch_size, drop_remainder), data.share, batch_size)
        return batched.map(lambda batch: finish(batch, epoch), num_parallel_calls=tf.data.AUTOTUNE)

    if epochs is None:
        once = batches(tf.constant(0, tf.int64), shuffle=False)
        full, rest = divmod(data.count(split) if keep is None else int(keep.sum()), batch_size)
        # Keras warns about a stream of unknown length, and this checks the length too.
        length = full if drop_remainder else full + (rest > 0)
        stream = once.apply(tf.data.experimental.assert_cardinality(length))
    else:
        numbers = tf.data.Dataset.range(start.epoch, epochs)
        stream = numbers.flat_map(lambda epoch: batches(epoch, shuffle=True))
    return stream.prefetch(2)


def _chosen(examples: tf.data.Dataset, keep: np.ndarray | None) -> tf.data.Dataset:
    if keep is None:
        return examples
    mask = tf.constant(keep)
    return examples.filter(lambda example: tf.gather(mask, example["index"]))


def _shared(batches: tf.data.Dataset, share: Share, batch_size: int) -> tf.data.Dataset:
    """Keep one share of each batch; that of a smaller last batch may be smaller, or empty."""
    if share == WHOLE:
        return batches
    size = batch_size // share.parts
    rows = slice(share.number * size, (share.number + 1) * size)
    return batches.map(lambda batch: {key: values[rows] for key, values in batch.items()})
