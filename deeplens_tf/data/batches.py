"""Examples to batches, by tf.data.

The order of the examples and the views follow from (seed, epoch, index). A stream can therefore
begin at any epoch and step and continue as an uninterrupted run would.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from deeplens_tf.augment import Augment
from deeplens_tf.data.image_data import WHOLE, Example, ImageData, Share
from deeplens_tf.data.view_making import report_missing_margin, view_margin, views_of
from deeplens_tf.data.whole_numbers import is_whole
from deeplens_tf.errors import RequestError


class Position(NamedTuple):
    """Position in the stream of a run: epochs done, and steps done in the epoch after them."""

    epoch: int
    step: int


BEGINNING = Position(0, 0)


def view_batches(
    data: ImageData,
    augment: Augment,
    batch_size: int = 128,
    *,
    split: str = "train",
    patches: int = 0,
    masked_views: bool = False,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Return the batches of one epoch for Keras's `fit`.

    In the training split they have new views each time the dataset is iterated. It counts its
    epochs: an epoch is over when its last batch has been taken, and another `fit` goes on with the
    next one. Other splits have the views of epoch 0 each time.

    Args:
        data: from `open_folder` or `from_arrays`.
        augment: makes the views.
        batch_size: images per batch; the remainder of an epoch is dropped.
        split: "train", shuffled in each epoch; any other split comes in stored order.
        patches: patches per image, of which a random order replaces the second view; 0 for two
            views.
        masked_views: give two views and an order of the patches of each, as models with
            `keep_tokens` below 1 need them. `patches` is then the encoder's `patch_count`.
        first_epoch: number of the first epoch, to continue an earlier training.

    Returns:
        Dicts with `view_1`, `view_2`, `image` (batch, height, width, bands) float32 and, for
        labelled data, `label` (batch,) int64. With `patches`, `patch_order` (batch, patches)
        int32 instead of `view_2`; with masked views, `patch_order_1` and `patch_order_2` beside
        both views. The number of batches is known.

    Raises:
        ValueError: not an `Augment`, a split without images, a batch larger than the split, or
            masked views without a number of patches.
    """
    if not isinstance(augment, Augment):
        raise ValueError(f"augment must be an Augment. Received: {augment!r}")
    data.require_images(split)
    if not is_whole(batch_size) or not 1 <= batch_size <= data.count(split):
        raise ValueError(
            f"batch_size must be a whole number from 1 to the {data.count(split)} images of the "
            f"{split} split. Received: batch_size={batch_size!r}"
        )
    if not is_whole(patches) or patches < 0 or not is_whole(first_epoch) or first_epoch < 0:
        raise ValueError(
            "patches and first_epoch must be whole numbers of at least 0. "
            f"Received: patches={patches!r}, first_epoch={first_epoch!r}"
        )
    if masked_views and not patches:
        raise ValueError(
            "patches must be the encoder's patch_count for masked views. "
            "Received: patches=0, masked_views=True"
        )
    report_missing_margin(data, augment)
    masks = (patches, masked_views)
    if split != "train":
        return pretraining_batches(data, split, augment, batch_size, None, *masks)
    epochs = _without_autograph(_counted_epochs, data)
    finish, with_margin = views_of(data, augment, *masks), view_margin(data, augment) > 0
    return epochs(data, split, batch_size, first_epoch, finish, with_margin)


def _counted_epochs(
    data: ImageData,
    split: str,
    batch_size: int,
    first_epoch: int,
    finish: Callable[[Example, tf.Tensor], Example],
    with_margin: bool,
) -> tf.data.Dataset:
    """Return the batches of one epoch, of the next one each time they are iterated."""
    steps = data.count(split) // batch_size
    with tf.device("CPU:0"):  # where tf.data runs
        epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def of_next_epoch(_: tf.Tensor) -> tf.data.Dataset:
        current = epoch.read_value()
        return _epoch(data, split, batch_size, current, finish, with_margin=with_margin)

    def counted(step: tf.Tensor, batch: Example) -> Example:
        is_last = tf.cast(step == steps - 1, tf.int64)
        with tf.control_dependencies([epoch.assign_add(is_last)]):
            return {name: tf.identity(values) for name, values in batch.items()}

    batches = tf.data.Dataset.from_tensors(0).flat_map(of_next_epoch)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)
    # After the prefetching, so that an epoch counts as over only when its last batch is used.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return batches.enumerate().map(counted).with_options(options)


def pretraining_batches(
    data: ImageData,
    split: str,
    augment: Augment,
    batch_size: int,
    epochs: int | None,
    patches: int = 0,
    masked_views: bool = False,
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
        masked_views: give two views and an order of the patches of each.
        start: where the stream of epochs begins.
    """
    finish = views_of(data, augment, patches, masked_views)
    with_margin = view_margin(data, augment) > 0
    return _without_autograph(_stream, data)(
        *(data, split, batch_size, epochs, finish),
        drop_remainder=True,
        start=start,
        with_margin=with_margin,
    )


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
        augment: makes the view that is trained on, as in `pretraining_batches`; None for the
            image itself.
        epochs: number of shuffled epochs in the stream; None for one pass in stored order.
        keep: True for each index of the split that is used, shape (count,); None for all.
        start: where the stream of epochs begins.
    """

    def pairs(batch: Example, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = batch["image"]
        if augment is not None:
            source = batch["image_with_margin" if margin else "image"]
            image = augment.view(source, batch["index"], data.seed, epoch, margin=margin)
        return image, target(batch)

    margin = 0 if augment is None else view_margin(data, augment)
    shuffled = epochs is not None
    stream = _without_autograph(_stream, data, target)
    return stream(data, split, batch_size, epochs, pairs, keep, shuffled, start, margin > 0)


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
    stream = _without_autograph(_stream, data)
    return stream(data, split, batch_size, None, lambda batch, epoch: batch["image"], keep)


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


def _without_autograph(
    function: Callable[..., tf.data.Dataset], *parts: Any
) -> Callable[..., tf.data.Dataset]:
    """Return a function that creates a stream without AutoGraph, if its parts are our own.

    AutoGraph converts Python's `if` and `for` on tensors, which only the code of others may
    contain. To convert the functions of a stream takes longer than to trace them.
    """
    own = all(part.__module__.startswith("deeplens_tf.") for part in parts)
    return tf.autograph.experimental.do_not_convert(function) if own else function


def _stream(
    data: ImageData,
    split: str,
    batch_size: int,
    epochs: int | None,
    finish: Callable[[Example, tf.Tensor], object],
    keep: np.ndarray | None = None,
    drop_remainder: bool = False,
    start: Position = BEGINNING,
    with_margin: bool = False,
) -> tf.data.Dataset:
    """Return the batches of one pass, or of `epochs` shuffled passes from `start` on."""

    def batches(epoch: tf.Tensor, shuffle: bool) -> tf.data.Dataset:
        done = tf.where(epoch == start.epoch, start.step, 0) if shuffle else 0
        options = (shuffle, keep, drop_remainder, done, with_margin)
        return _epoch(data, split, batch_size, epoch, finish, *options)

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


def _epoch(
    data: ImageData,
    split: str,
    batch_size: int,
    epoch: tf.Tensor,
    finish: Callable[[Example, tf.Tensor], object],
    shuffle: bool = True,
    keep: np.ndarray | None = None,
    drop_remainder: bool = True,
    done: int | tf.Tensor = 0,
    with_margin: bool = False,
) -> tf.data.Dataset:
    """Return the batches of one epoch after those that are done, which are not looked up."""
    references = data.references(split, epoch if shuffle else None)
    references = _chosen(data, references, keep).rebatch(batch_size, drop_remainder)
    references = _shared(references.skip(tf.cast(done, tf.int64)), data.share, batch_size)
    return references.map(
        lambda batch: finish(data.look_up(split, batch, with_margin), epoch),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _chosen(
    data: ImageData, references: tf.data.Dataset, keep: np.ndarray | None
) -> tf.data.Dataset:
    if keep is None:
        return references
    mask = tf.constant(keep)
    return references.map(lambda some: tf.boolean_mask(some, tf.gather(mask, data.indices(some))))


def _shared(references: tf.data.Dataset, share: Share, batch_size: int) -> tf.data.Dataset:
    """Keep one share of each batch; that of a smaller last batch may be smaller, or empty."""
    if share == WHOLE:
        return references
    size = batch_size // share.parts
    rows = slice(share.number * size, (share.number + 1) * size)
    return references.map(lambda batch: batch[rows])
