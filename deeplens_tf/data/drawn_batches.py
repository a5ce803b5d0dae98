"""Batches of views of pairs that are drawn while training, and stored nowhere."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.augment import Augment, without_margin
from deeplens_tf.data.image_data import Example
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.streams import without_autograph
from deeplens_tf.data.view_making import views_of


class DrawnPairs(NamedTuple):
    """The pairs of a batch.

    Attributes:
        epoch: in which they are drawn.
        numbers: of the pairs in the epoch, shape (batch,), int64.
        labels: class of each pair, shape (batch,), int64.
        images: as they are stored, shape (2, batch, height, width, bands), float32.
    """

    epoch: int
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    images: NDArray[np.float32]


def drawn_batches(
    draw: Callable[[], Iterator[DrawnPairs]],
    data: PreparedData,
    augment: Augment,
    batch_size: int,
    patches: int = 0,
    masked_views: bool = False,
) -> tf.data.Dataset:
    """Return batches of views of drawn pairs, of the content that `view_batches` describes.

    The views follow from (seed, epoch, number of the pair, view).

    Args:
        draw: makes the batches of pairs; called each time the dataset is iterated.
        data: with the shape and the classes of the images.
        augment: makes the views.
        batch_size: pairs in each batch.
        patches: see `view_batches`.
        masked_views: see `view_batches`.
    """
    views, how = views_of(data, augment, patches, masked_views), data.preprocessing
    stored = tf.TensorSpec((2, batch_size, *data.manifest.stored_shape), tf.float32)
    each, epoch = tf.TensorSpec((batch_size,), tf.int64), tf.TensorSpec((), tf.int64)

    def examples(pairs: DrawnPairs, view: int) -> Example:
        wide = tf.tile(pairs.images[view], (1, 1, 1, how.repeat))
        image = without_margin(wide, data.margin)
        index = 2 * pairs.numbers + view
        return {
            **{"image": image, "image_with_margin": wide},
            **{"label": pairs.labels, "index": index},
        }

    def of_pairs(*drawn: tf.Tensor) -> Example:
        pairs = DrawnPairs(*drawn)
        return views(examples(pairs, 0), examples(pairs, 1), pairs.epoch)

    def batches() -> tf.data.Dataset:
        signature = (epoch, each, each, stored)
        drawn = tf.data.Dataset.from_generator(draw, output_signature=signature)
        return drawn.map(of_pairs, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    return without_autograph(batches, data)()
