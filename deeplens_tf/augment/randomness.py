"""Random numbers of a whole batch at once, each example's from a 64-bit key of its own.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014): number j of a key is mix(key + (j + 1) * GOLDEN), so that all numbers are
computed independently of each other. The keys of a view follow from (seed, epoch, view, index).

TensorFlow has the operations on uint64 for the CPU, on which tf.data runs.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

Word: TypeAlias = int | tf.Tensor

# Purposes of a key, beside the views 1 and 2.
MASK, ORDER = 0, 3
MASK_OF_VIEW = {1: 4, 2: 5}
PAIR = 6
GOLDEN = 0x9E3779B97F4A7C15
LANES = 16  # at most so many float32 make up a vector of the processor


def key_of(seed: Word, epoch: Word, purpose: Word) -> tf.Tensor:
    """Return the key from which all random numbers of one purpose in an epoch follow, shape ().

    Args:
        seed: of the run.
        epoch: of the run.
        purpose: the number of a view, `MASK`, `ORDER`, `PAIR` or one of `MASK_OF_VIEW`.
    """
    return fold_in(fold_in(fold_in(tf.constant(0, tf.uint64), seed), purpose), epoch)


def fold_in(keys: tf.Tensor, number: Word) -> tf.Tensor:
    """Return other keys for each number.

    Args:
        keys: any shape, uint64.
        number: an integer, or integers of a shape that goes with that of the keys.

    Returns:
        Keys whose random numbers are independent of those of `keys` and of other numbers.
    """
    words = tf.bitcast(tf.cast(number, tf.int64), tf.uint64)
    return _mixed(_mixed(keys) ^ _mixed(words + tf.constant(GOLDEN, tf.uint64)))


def uniform(
    keys: tf.Tensor, shape: Sequence[int] = (), low: float = 0.0, high: float = 1.0
) -> tf.Tensor:
    """Draw uniform numbers for each example of a batch.

    Args:
        keys: of the examples, shape (batch,), uint64.
        shape: of the numbers of one example.
        low: least value.
        high: upper bound, which is no value, unless it is `low`.

    Returns:
        `(batch, *shape)`, float32.

    Raises:
        ValueError: `high` is below `low`.
    """
    if high < low:
        raise ValueError(f"high must be at least low. Received: low={low}, high={high}")
    low, high = float(np.float32(low)), float(np.float32(high))
    numbers = low + (high - low) * _unit(_shifted(_bits(keys, math.prod(shape)), 40))
    # Rounding may reach the upper bound.
    numbers = tf.minimum(numbers, np.nextafter(np.float32(high), np.float32(low)))
    return tf.reshape(numbers, (-1, *shape))


def normal(keys: tf.Tensor, shape: Sequence[int] = ()) -> tf.Tensor:
    """Draw numbers of the standard normal distribution for each example of a batch.

    Box and Muller, "A note on the generation of random normal deviates", Ann. Math. Stat. 29
    (1958) 610.

    Args:
        keys: of the examples, shape (batch,), uint64.
        shape: of the numbers of one example.

    Returns:
        `(batch, *shape)`, float32.
    """
    count = math.prod(shape)
    # In whole vectors: the functions round the rest of an array in another way, which would make
    # the numbers of an example depend on its place in the batch.
    pairs = -(-count // (2 * LANES)) * LANES
    bits = _bits(keys, pairs)
    radius = tf.sqrt(-2 * tf.math.log(_unit(_shifted(bits, 40) + 1)))  # of (0, 1]
    angle = 2 * math.pi * _unit(_shifted(bits, 16) & 0xFFFFFF)
    numbers = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)
    return tf.reshape(numbers[:, :count], (-1, *shape))


def whole_numbers(keys: tf.Tensor, shape: Sequence[int], bound: int) -> tf.Tensor:
    """Draw whole numbers from 0 to below a bound, of at most 2**31, for each example of a batch.

    Args:
        keys: of the examples, shape (batch,), uint64.
        shape: of the numbers of one example.
        bound: upper bound, which is no value.

    Returns:
        `(batch, *shape)`, int32. The probabilities of two numbers differ by at most
        bound / 2**32 of themselves.

    Raises:
        ValueError: another bound.
    """
    if not 1 <= bound <= 2**31:
        raise ValueError(f"bound must be from 1 to 2**31. Received: bound={bound}")
    numbers = _shifted(_shifted(_bits(keys, math.prod(shape)), 32) * bound, 32)
    return tf.reshape(tf.cast(numbers, tf.int32), (-1, *shape))


def two_of_each(keys: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Draw two different whole numbers from 0 to below a count for each key, in random order.

    Args:
        keys: shape (batch,), uint64.
        counts: from 1 to below 2**31, shape (batch,), int64. Of a count of 1 both numbers are 0.

    Returns:
        Shape (batch, 2), int64.
    """
    high = _shifted(_bits(keys, 2), 32)
    bounds = tf.stack([counts, counts - 1], axis=1)  # the second number is one of the others
    drawn = tf.cast(_shifted(high * tf.cast(bounds, tf.uint64), 32), tf.int64)
    first, further = drawn[:, 0], drawn[:, 1] + 1
    return tf.stack([first, (first + further) % counts], axis=1)


def orders(keys: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Draw a random order of `count` things for each key.

    Args:
        keys: shape (batch,), uint64.
        count: number of things.

    Returns:
        Permutations of 0 to count - 1, shape (batch, count), int32.
    """
    return tf.argsort(tf.bitcast(_bits(keys, count), tf.int64), stable=True)


def _bits(keys: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Return the first `count` numbers of each key, shape (batch, count), uint64."""
    places = tf.cast(tf.range(1, tf.cast(count, tf.int64) + 1), tf.uint64)
    return _mixed(keys[:, None] + places * tf.constant(GOLDEN, tf.uint64))


def _mixed(words: tf.Tensor) -> tf.Tensor:
    """Return the words with all their bits mixed, as SplitMix64 does."""
    mixed = _mixing_graph()(words)
    mixed.set_shape(words.shape)
    return mixed


@functools.cache
def _mixing_graph() -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the graph of `_mix`; a training draws in a hundred places, each an operation of it."""
    words = tf.TensorSpec(None, tf.uint64)
    with tf.init_scope():
        return tf.function(_mix, autograph=False).get_concrete_function(words)


def _mix(words: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ _shifted(words, shift)) * tf.constant(factor, tf.uint64)
    return words ^ _shifted(words, 31)


def _shifted(words: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(words, tf.constant(bits, tf.uint64))


def _unit(words: tf.Tensor) -> tf.Tensor:
    """Return whole numbers up to 2**24 as the same share of it, float32."""
    return tf.cast(tf.cast(words, tf.int32), tf.float32) * 2.0**-24
