"""Mirroring, shifting and choosing whole images of a batch, by operations that copy whole rows."""

import tensorflow as tf


def mirrored(images: tf.Tensor, horizontal: tf.Tensor, vertical: tf.Tensor) -> tf.Tensor:
    """Mirror some images of a batch.

    Args:
        images: shape (batch, height, width, bands).
        horizontal: where left and right are exchanged, shape (batch,), bool.
        vertical: where top and bottom are exchanged, shape (batch,), bool.
    """
    height, width, bands = images.shape[1:]
    # As rows of single numbers where possible: an axis of length 1 makes it three times slower.
    lines = tf.reshape(images, (-1, width, bands) if bands > 1 else (-1, width))
    reversed_lines = tf.reshape(tf.reverse(lines, [1]), (-1, height, width, bands))
    images = where(horizontal, reversed_lines, images)
    rows = tf.range(height)
    rows = tf.where(vertical[:, tf.newaxis], height - 1 - rows, rows)  # (batch, height)
    return tf.gather(images, rows, batch_dims=1)


def shifted(images: tf.Tensor, down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Shift each image of a batch by whole pixels; what comes from beyond the border is reflected.

    Args:
        images: shape (batch, height, width, bands).
        down: shape (batch,), int32.
        right: shape (batch,), int32.
    """
    images = tf.gather(images, _reflected(images.shape[1], down), batch_dims=1)
    return tf.gather(images, _reflected(images.shape[2], right), axis=2, batch_dims=1)


def _reflected(length: int, shifts: tf.Tensor) -> tf.Tensor:
    """Return the source of each pixel of a shifted axis, (batch, length); the ends come twice."""
    places = (tf.range(length) - shifts[:, tf.newaxis]) % (2 * length)
    return tf.minimum(places, 2 * length - 1 - places)


def where(chosen: tf.Tensor, images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Take each chosen image, (batch,) bool, from `images`, and the rest from `others`.

    `tf.where` compares number by number.
    """
    return tf.raw_ops.Select(condition=chosen, x=images, y=others)
