"""Which two images of each object make the views in an epoch, and in which order they come.

Everything follows from (seed, epoch): the order of the shards and, within blocks of whole objects,
that of the objects; and from (seed, epoch, object) the two images, where an object is known by the
index of its first image.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.augment.randomness import fold_in, two_of_each
from deeplens_tf.data.objects import Objects

# (number of a block, number of things in it) -> the order of these things.
Order: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def in_shard_order(counts: NDArray[np.int64], order: tf.Tensor) -> tf.Tensor:
    """Return the numbers of things that are stored in shards, with the shards in another order.

    Args:
        counts: number of things in each shard, shape (shards,).
        order: of the shards, a permutation of 0 to shards - 1.

    Returns:
        A permutation of the things, int64.
    """
    first = tf.gather(np.cumsum(counts) - counts, order)  # number of each shard's first thing
    in_order = tf.gather(counts, order)
    offsets = tf.repeat(first - tf.cumsum(in_order, exclusive=True), in_order)
    return tf.range(int(counts.sum()), dtype=tf.int64) + offsets


def drawn_pairs(
    objects: Objects, numbers: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return two images of each of some objects, which follow from the key and the object.

    Args:
        objects: of the split.
        numbers: of the objects, shape (n,), int64.
        key: of the epoch.

    Returns:
        The indices of the images in the split, and their places among those of their object, each
        of shape (n, 2), int64.
    """
    first = tf.gather(objects.starts, numbers)  # among the members
    keys = fold_in(key, tf.gather(objects.members, first))
    drawn = two_of_each(keys, tf.gather(objects.sizes, numbers))
    return tf.gather(objects.members, first[:, tf.newaxis] + drawn), drawn


def pair_blocks(
    objects: Objects, in_order: tf.Tensor, block_size: int, key: tf.Tensor, order: Order
) -> tuple[tf.data.Dataset, tf.Tensor]:
    """Return the pairs of one epoch in blocks of whole objects.

    An object is in the block in which its first image would be if all blocks had `block_size`
    images. Blocks are numbered from 1, and some numbers may be missing.

    Args:
        objects: of the split.
        in_order: numbers of the objects in the order in which their images are read, shape
            (objects,).
        block_size: number of images of a block, apart from the further images of its last object.
        key: of the epoch, from which the two images of each object follow.
        order: that of the objects of a block.

    Returns:
        A dataset with one element for each block: the indices of the images in the split, and their
        positions in the block as it is read, each of shape (objects of the block, 2), int64; and
        the number of images in each block, shape (blocks,).
    """
    sizes = tf.gather(objects.sizes, in_order)
    starts = tf.cumsum(sizes, exclusive=True)  # images that are read before each object
    numbers, block_of, counts = tf.unique_with_counts(starts // block_size, tf.int64)
    image_counts = tf.math.segment_sum(sizes, block_of)
    objects_before = tf.cumsum(counts, exclusive=True)
    images_before = tf.cumsum(image_counts, exclusive=True)

    def pairs_of(block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shuffled = tf.cast(order(numbers[block] + 1, counts[block]), tf.int64)
        places = objects_before[block] + shuffled  # among all objects of the epoch
        indices, drawn = drawn_pairs(objects, tf.gather(in_order, places), key)
        positions = tf.gather(starts, places) - images_before[block]
        return indices, positions[:, tf.newaxis] + drawn

    return tf.data.Dataset.range(tf.size(numbers, tf.int64)).map(pairs_of), image_counts
