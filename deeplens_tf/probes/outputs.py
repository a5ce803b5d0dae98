"""The outputs of a model for every image of a split."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.image_data import ImageData
from deeplens_tf.terminal import bar_verbosity

BATCH_SIZE = 256
PARALLEL_IMAGES = 16


class NotFiniteOutputs(ValueError):
    """A model returned NaN or infinity for some images."""


def model_outputs(
    model: keras.Model,
    data: ImageData,
    split: str,
    rows: NDArray[np.bool_] | None = None,
    show_progress: bool = True,
) -> NDArray[np.float32]:
    """Return the outputs of a model for the images of a split, in the order of its index.

    Args:
        model: images -> outputs.
        data: images in splits.
        split: the split.
        rows: True for each image to use, shape (images,); None for all.
        show_progress: show a progress bar on a terminal.

    Returns:
        Shape (used images, outputs).

    Raises:
        NotFiniteOutputs: an output is NaN or infinite.
    """
    batches = image_batches(data, split, BATCH_SIZE, rows)
    _trace(model, batches.element_spec)
    verbose = bar_verbosity() if show_progress else 0
    return finite_outputs(model.predict(batches, verbose=verbose))


def _trace(model: keras.Model, images: tf.TensorSpec) -> None:
    """Trace a prediction of any number of images, else a smaller last batch is traced again."""
    model.make_predict_function()
    if not model.run_eagerly:
        model.predict_function.get_concrete_function([images])


class ExactOutputs:
    """The outputs of a model for images, which depend on each image alone, to the last bit.

    In a batch they depend on the number of the images and on the place of each: a product of
    matrices adds up in another order at the ends of its blocks. So each image is a batch of its
    own here, and several are computed at the same time. A GPU would be idle most of the time then:
    with one, the images are one batch, and the last bits depend on it.

    Args:
        model: images -> outputs.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        outputs = self._batch if tf.config.list_physical_devices("GPU") else self._each
        self._function = tf.function(outputs, autograph=False)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs, shape (images, outputs).

        Args:
            images: shape (images, height, width, bands).

        Raises:
            NotFiniteOutputs: an output is NaN or infinite.
        """
        # One graph for any number of images. Where a function is called itself, TensorFlow warns
        # of the graphs of several models, as of a loop of predictions.
        any_number = tf.TensorSpec((None, *images.shape[1:]), tf.float32)
        graph = self._function.get_concrete_function(any_number)
        return finite_outputs(graph(tf.convert_to_tensor(images)))

    def _each(self, images: tf.Tensor) -> tf.Tensor:
        options = {"parallel_iterations": PARALLEL_IMAGES, "fn_output_signature": tf.float32}
        return tf.map_fn(self._one, images, **options)

    def _one(self, image: tf.Tensor) -> tf.Tensor:
        return self._batch(image[tf.newaxis])[0]

    def _batch(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._model(images, training=False), tf.float32)


def finite_outputs(outputs: ArrayLike) -> NDArray[np.float32]:
    """Return the outputs of a model, shape (images, outputs), as float32.

    Raises:
        NotFiniteOutputs: an output is NaN or infinite.
    """
    outputs = np.asarray(outputs, np.float32)
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        raise NotFiniteOutputs(
            f"the outputs for {(~finite).sum()} of {len(outputs)} images are not finite"
        )
    return outputs
