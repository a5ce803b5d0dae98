"""Streams of batches: which examples come when, from any position of a run on.

The order of the examples follows from (seed, epoch). What a stream consists of is made of batches
of references, see `ImageData`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.augment.randomness import PAIR, key_of
from deeplens_tf.data.image_data import WHOLE, ImageData, Share
from deeplens_tf.data.pair_order import drawn_pairs


class Position(NamedTuple):
    """Position in the stream of a run: epochs done, and steps done in the epoch after them."""

    epoch: int
    step: int


BEGINNING = Position(0, 0)
# Makes a batch of references and an epoch what a stream consists of.
Make: TypeAlias = Callable[[tf.Tensor, tf.Tensor], Any]


def without_autograph(
    function: Callable[..., tf.data.Dataset], *parts: Any
) -> Callable[..., tf.data.Dataset]:
    """Return a function that creates a stream without AutoGraph, if its parts are our own.

    AutoGraph converts Python's `if` and `for` on tensors, which only the code of others may
    contain. To convert the functions of a stream takes longer than to trace them.
    """
    own = all(part.__module__.startswith("deeplens_tf.") for part in parts)
    return tf.autograph.experimental.do_not_convert(function) if own else function


def stream_of(
    data: ImageData,
    split: str,
    batch_size: int,
    epochs: int | None,
    make: Make,
    count: int,
    keep: np.ndarray | None = None,
    drop_remainder: bool = False,
    start: Position = BEGINNING,
    pairs: bool = False,
) -> tf.data.Dataset:
    """Return the batches of one pass, or of `epochs` shuffled passes from `start` on."""

    def batches(epoch: tf.Tensor, shuffle: bool) -> tf.data.Dataset:
        done = tf.where(epoch == start.epoch, start.step, 0) if shuffle else 0
        options = (shuffle, keep, drop_remainder, done)
        return epoch_batches(data, split, batch_size, epoch, make, pairs, *options)

    if epochs is None:
        once = batches(tf.constant(0, tf.int64), shuffle=False)
        full, rest = divmod(count, batch_size)
        # Keras warns about a stream of unknown length, and this checks the length too.
        length = full if drop_remainder else full + (rest > 0)
        stream = once.apply(tf.data.experimental.assert_cardinality(length))
    else:
        numbers = tf.data.Dataset.range(start.epoch, epochs)
        stream = numbers.flat_map(lambda epoch: batches(epoch, shuffle=True))
    return stream.prefetch(2)


def epoch_batches(
    data: ImageData,
    split: str,
    batch_size: int,
    epoch: tf.Tensor,
    make: Make,
    pairs: bool,
    shuffle: bool = True,
    keep: np.ndarray | None = None,
    drop_remainder: bool = True,
    done: int | tf.Tensor = 0,
) -> tf.data.Dataset:
    """Return the batches of one epoch after those that are done, which are not looked up."""
    references = (data.pairs if pairs else data.references)(split, epoch if shuffle else None)
    references = _chosen(data, references, keep).rebatch(batch_size, drop_remainder)
    references = shared(references.skip(tf.cast(done, tf.int64)), data.share, batch_size)
    return references.map(lambda batch: make(batch, epoch), num_parallel_calls=tf.data.AUTOTUNE)


class EpochOrder:
    """The order of the pairs of an epoch, which a stream reads whenever it is iterated.

    Args:
        count: number of pairs that an epoch takes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        with tf.device("CPU:0"):  # where tf.data runs
            self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
            self.numbers = tf.Variable(tf.range(count, dtype=tf.int64), trainable=False)

    def assign(self, epoch: int, numbers: NDArray[np.int64]) -> None:
        """Set the order of an epoch: numbers of images, or of objects, shape (count,)."""
        self.epoch.assign(epoch)
        self.numbers.assign(numbers)


def ordered_batches(
    data: ImageData,
    split: str,
    batch_size: int,
    make: Make,
    order: EpochOrder,
    pairs: bool,
    done: int = 0,
) -> tf.data.Dataset:
    """Return the batches of the epoch that `order` has when they are iterated, after those done.

    The references of the data must be indices: those of arrays, or of a split held in memory.
    """
    objects = data.objects(split) if pairs else None

    def of_current_epoch(_: tf.Tensor) -> tf.data.Dataset:
        epoch, numbers = order.epoch.read_value(), order.numbers.read_value()
        if objects is not None:
            numbers, _ = drawn_pairs(objects, numbers, key_of(data.seed, epoch, PAIR))
        references = tf.data.Dataset.from_tensors(numbers).rebatch(batch_size).skip(done)
        return references.map(lambda batch: make(batch, epoch), num_parallel_calls=tf.data.AUTOTUNE)

    stream = tf.data.Dataset.from_tensors(0).flat_map(of_current_epoch)
    length = order.count // batch_size - done
    return stream.apply(tf.data.experimental.assert_cardinality(length)).prefetch(2)


def _chosen(
    data: ImageData, references: tf.data.Dataset, keep: np.ndarray | None
) -> tf.data.Dataset:
    if keep is None:
        return references
    mask = tf.constant(keep)
    return references.map(lambda some: tf.boolean_mask(some, tf.gather(mask, data.indices(some))))


def shared(references: tf.data.Dataset, share: Share, batch_size: int) -> tf.data.Dataset:
    """Keep one share of each batch; that of a smaller last batch may be smaller, or empty."""
    if share == WHOLE:
        return references
    size = batch_size // share.parts
    rows = slice(share.number * size, (share.number + 1) * size)
    return references.map(lambda batch: batch[rows])
