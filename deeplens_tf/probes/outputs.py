"""What a model makes of every image of a split."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.data.batches import PreparedData
from deeplens_tf.errors import RequestError
from deeplens_tf.terminal import bar_verbosity

BATCH_SIZE = 256


def predict(model: keras.Model, batches: tf.data.Dataset, file: Path) -> NDArray[np.float32]:
    """Return what a model makes of every image, with a bar on a terminal.

    Args:
        model: images -> outputs.
        batches: of images, (batch, height, width, bands).
        file: that the model was read from.

    Returns:
        Shape (images, outputs).

    Raises:
        RequestError: an output is not finite.
    """
    outputs = np.asarray(model.predict(batches, verbose=bar_verbosity()), np.float32)
    broken = ~np.isfinite(outputs).all(axis=1)
    if broken.any():
        raise RequestError(
            f"{file}: its outputs for {broken.sum()} of {len(broken)} images are not finite, its "
            "training has diverged: train it again with a smaller optimizer.learning_rate"
        )
    return outputs


def require_image_shape(model: keras.Model, data: PreparedData) -> None:
    """Refuse data of another image size or number of bands than the model takes.

    Raises:
        RequestError: they differ.
    """
    if tuple(model.image_shape) != data.image_shape:
        raise RequestError(
            f"the model takes images of {tuple(model.image_shape)} (height, width, bands), "
            f"and these are {data.image_shape}: set data.image_size and data.bands"
        )
