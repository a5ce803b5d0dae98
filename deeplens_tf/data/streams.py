"""Streams of batches: which examples come when, from any position of a run on.

The order of the examples follows from (seed, epoch). What a stream consists of is made of batches
of references, see `ImageData`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from deeplens_tf.data.image_data import WHOLE, ImageData, Share


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
