"""The spread of image statistics in training, by which a model recognises unlike images."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.image_data import WHOLE
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.preprocessing.statistics import TrainingRange, image_statistics
from deeplens_tf.probes.outputs import BATCH_SIZE

MAX_IMAGES = 10_000  # the stored order is shuffled, and percentiles need no more


def training_range(data: PreparedData, keep: NDArray[np.bool_]) -> TrainingRange:
    """Return the range of the training images' statistics, without augmentations.

    Args:
        data: the opened data; every worker gets the same range.
        keep: True for each image of the training split that is used, shape (count,).
    """
    chosen = keep & (np.cumsum(keep) <= MAX_IMAGES)
    batches = image_batches(replace(data, share=WHOLE), "train", BATCH_SIZE, chosen)
    found = [image_statistics(images) for images in batches.as_numpy_iterator()]
    return TrainingRange.of(np.concatenate(found))
