"""Keys of stateless random numbers: those of a view follow from (seed, epoch, index, view)."""

import tensorflow as tf


def key_of(
    index: tf.Tensor, seed: int | tf.Tensor, epoch: int | tf.Tensor, number: int
) -> tf.Tensor:
    """Return the key from which all random numbers of one view of one image follow."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(number, tf.int64)])
    for word in (epoch, index):
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(word, tf.int64))
    return key


def fold_in(key: tf.Tensor, number: int) -> tf.Tensor:
    """Return another key for each number."""
    return tf.random.experimental.stateless_fold_in(key, tf.constant(number, tf.int64))
