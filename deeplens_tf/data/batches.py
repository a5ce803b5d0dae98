"""Examples to batches, by tf.data.

The order of the examples and the views follow from (seed, epoch, index). A stream can therefore
begin at any epoch and step and continue as an uninterrupted run would.

A stream consists of images or, where the two views show one object, of two images of each object.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
import tensorflow as tf

from deeplens_tf.augment import Augment
from deeplens_tf.data.image_data import Example, ImageData
from deeplens_tf.data.streams import (
    BEGINNING,
    EpochOrder,
    Make,
    Position,
    epoch_batches,
    ordered_batches,
    stream_of,
    without_autograph,
)
from deeplens_tf.data.view_making import (
    report_missing_margin,
    require_two_views,
    view_margin,
    views_of,
)
from deeplens_tf.data.whole_numbers import is_whole
from deeplens_tf.errors import RequestError

# What the two views of an example are made of: two images of one object, or one image.
Positives: TypeAlias = Literal["object", "image"]


def view_batches(
    data: ImageData,
    augment: Augment,
    batch_size: int = 128,
    *,
    split: str = "train",
    positives: Positives = "image",
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
        batch_size: pairs of views per batch; the remainder of an epoch is dropped.
        split: "train", shuffled in each epoch; any other split comes in stored order.
        positives: what the two views of a pair are made of: "image", one image; "object", two
            images of one object, drawn anew in each epoch, or one image if the object has no other.
            An epoch has one pair of each image, or of each object. `image` and `label` are those of
            the first view.
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
        ValueError: not an `Augment`, a split without images, a batch larger than the split, masked
            views without a number of patches, or one view of pairs of an object.
    """
    if not isinstance(augment, Augment):
        raise ValueError(f"augment must be an Augment. Received: {augment!r}")
    data.require_images(split)
    if positives not in get_args(Positives):
        raise ValueError(f"positives must be 'image' or 'object'. Received: {positives!r}")
    count = pair_count(data, split, positives)
    if not is_whole(batch_size) or not 1 <= batch_size <= count:
        raise ValueError(
            f"batch_size must be a whole number from 1 to the {count} {positives}s of the "
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
    options = (patches, masked_views, positives)
    if split != "train":
        return pretraining_batches(data, split, augment, batch_size, None, *options)
    epochs = without_autograph(_counted_epochs, data)
    make, pairs = _making_views(data, split, augment, *options)
    return epochs(data, split, batch_size, first_epoch, make, pairs, count // batch_size)


def pair_count(data: ImageData, split: str, positives: Positives) -> int:
    """Return the number of pairs of views in an epoch: that of the images, or of the objects."""
    by_object = positives == "object" and data.count(split) > 0
    return len(data.objects(split)) if by_object else data.count(split)


def _making_views(
    data: ImageData,
    split: str,
    augment: Augment,
    patches: int,
    masked_views: bool,
    positives: Positives,
) -> tuple[Make, bool]:
    """Return what makes views of references, and whether these are pairs."""
    if positives == "object":
        require_two_views(patches, masked_views)
    views = views_of(data, augment, patches, masked_views)
    with_margin = view_margin(data, augment) > 0

    def of_images(references: tf.Tensor, epoch: tf.Tensor) -> Example:
        examples = data.look_up(split, references, with_margin)
        return views(examples, examples, epoch)

    def of_pairs(references: tf.Tensor, epoch: tf.Tensor) -> Example:
        # One after the other, so that neither part of the images is copied.
        # Not by a transposition: oneDNN has none of int64, and TensorFlow reports that as an error.
        one_list = tf.concat([references[:, 0], references[:, 1]], axis=0)
        examples = {
            key: tf.split(values, 2)
            for key, values in data.look_up(split, one_list, with_margin).items()
        }
        first, second = ({key: parts[i] for key, parts in examples.items()} for i in (0, 1))
        return views(first, second, epoch)

    pairs = positives == "object" and data.objects(split).have_pairs
    return (of_pairs if pairs else of_images), pairs


def _counted_epochs(
    data: ImageData,
    split: str,
    batch_size: int,
    first_epoch: int,
    make: Make,
    pairs: bool,
    steps: int,
) -> tf.data.Dataset:
    """Return the batches of one epoch, of the next one each time they are iterated."""
    with tf.device("CPU:0"):  # where tf.data runs
        epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def of_next_epoch(_: tf.Tensor) -> tf.data.Dataset:
        current = epoch.read_value()
        return epoch_batches(data, split, batch_size, current, make, pairs)

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
    positives: Positives = "image",
    start: Position = BEGINNING,
    order: EpochOrder | None = None,
) -> tf.data.Dataset:
    """Return batches of views as one stream; their content is that of `view_batches`.

    Args:
        data: the opened data.
        split: "train" or "validation".
        augment: makes the views.
        batch_size: pairs of views per batch; the remainder of an epoch is dropped.
        epochs: number of shuffled epochs in the stream; None for one pass in stored order.
        patches: patches per image, of which a random order replaces the second view; 0 for two
            views.
        masked_views: give two views and an order of the patches of each.
        positives: what the two views of a pair are made of, see `view_batches`.
        start: where the stream of epochs begins.
        order: decides which pairs come in which batch; the stream is then of one epoch, see
            `ordered_batches`.
    """
    make, pairs = _making_views(data, split, augment, patches, masked_views, positives)
    if order is not None:
        ordered = without_autograph(ordered_batches, data)
        return ordered(data, split, batch_size, make, order, pairs, start.step)
    count = pair_count(data, split, positives)
    return without_autograph(stream_of, data)(
        *(data, split, batch_size, epochs, make, count),
        drop_remainder=True,
        start=start,
        pairs=pairs,
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

    def with_target(references: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = data.look_up(split, references, margin > 0)
        image = batch["image"]
        if augment is not None:
            source = batch["image_with_margin" if margin else "image"]
            image = augment.view(source, batch["index"], data.seed, epoch, margin=margin)
        return image, target(batch)

    margin = 0 if augment is None else view_margin(data, augment)
    shuffled = epochs is not None
    stream = without_autograph(stream_of, data, target)
    count = _count(data, split, keep)
    return stream(data, split, batch_size, epochs, with_target, count, keep, shuffled, start)


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

    def images(references: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        return data.look_up(split, references)["image"]

    stream = without_autograph(stream_of, data)
    return stream(data, split, batch_size, None, images, _count(data, split, keep), keep)


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


def _count(data: ImageData, split: str, keep: np.ndarray | None) -> int:
    return data.count(split) if keep is None else int(keep.sum())
