"""Any Keras model from an image to a feature vector, seen as an encoder."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


def image_shape_of(encoder: Any) -> tuple[int, int, int]:
    """Return the (height, width, bands) of the images that an encoder takes.

    It is the attribute `image_shape` of this package's encoders, and the input shape of any other
    Keras model.

    Args:
        encoder: built Keras model, image -> features.

    Raises:
        ValueError: not a Keras model with one input, or one for images of any size.
    """
    if not isinstance(encoder, keras.Model):
        raise ValueError(f"encoder must be a Keras model. Received: encoder={encoder!r}")
    shape = getattr(encoder, "image_shape", None) or _input_shape(encoder)
    if shape is None or len(shape) != 3 or not all(isinstance(side, int) for side in shape):
        raise ValueError(
            "encoder must take images of a known (height, width, bands): build it with an Input "
            f"of that shape, or set its attribute image_shape. Received: {encoder.name}, {shape}"
        )
    return tuple(shape)


def feature_shape(encoder: keras.Model) -> tuple[None, int]:
    """Return the shape (None, dim) of an encoder's features.

    Args:
        encoder: built Keras model, image -> features.

    Raises:
        ValueError: the encoder does not return one vector per image.
    """
    image_shape = image_shape_of(encoder)
    try:
        shape = encoder.compute_output_shape((None, *image_shape))
    except NotImplementedError:  # of a subclass; Keras can then trace its call
        images = keras.KerasTensor((None, *image_shape))
        shape = getattr(encoder.compute_output_spec(images), "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or not isinstance(shape[1], int):
        raise ValueError(
            "encoder must return one feature vector per image, (batch, dim): end it with a "
            f"pooling layer. Received: {encoder.name} with the output shape {shape}"
        )
    return None, shape[1]


def build_on_features(layer: keras.layers.Layer, encoder: keras.Model) -> None:
    """Create the variables of a layer on the encoder's features, unless it has them already."""
    if not layer.built:
        layer.build(feature_shape(encoder))


def build_encoder_variables(encoder: keras.Model) -> None:
    """Create the variables of an encoder, unless it has them already."""
    if not encoder.built:
        encoder.build((None, *image_shape_of(encoder)))


def has_convolutions(encoder: keras.Model) -> bool:
    """Whether an encoder has convolutions whose windows overlap, unlike those of patches."""
    layers = encoder._flatten_layers()
    sizes = ((getattr(each, "kernel_size", ()), getattr(each, "strides", ())) for each in layers)
    return any(
        side > step for kernel, steps in sizes for side, step in zip(kernel, steps, strict=True)
    )


def copy_of(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """Return a layer of the same configuration with weights of its own.

    Args:
        layer: a layer or a model.
        name: of the copy.

    Raises:
        ValueError: `get_config` and `from_config` do not reproduce the layer.
    """
    try:
        return type(layer).from_config({**layer.get_config(), "name": name})
    except Exception as error:  # a layer's own code may raise anything
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise ValueError(
            f"{layer.name} must have a get_config that from_config can rebuild it from, since a "
            f"copy of it is needed. Received: {type(error).__name__}: {reason}"
        ) from error


def require_same_weights(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Refuse a copy whose weights differ in number or shape from the original's.

    Raises:
        ValueError: `get_config` lacks something that decides the weights.
    """
    shapes, copied = ([tuple(weight.shape) for weight in each.weights] for each in (layer, copy))
    if shapes != copied:
        raise ValueError(
            f"{layer.name} must have a get_config that describes it completely: a copy made from "
            f"it has other weights. Received: shapes {copied[:4]} instead of {shapes[:4]}"
        )


def _input_shape(encoder: keras.Model) -> tuple[Any, ...] | None:
    """Return the shape of one input of a model, or None for several or unknown ones."""
    shape = getattr(encoder, "input_shape", None)  # raises nothing for a subclassed model
    return tuple(shape[1:]) if isinstance(shape, tuple) else None


@contextlib.contextmanager
def global_policy(policy: Any) -> Iterator[None]:
    """Build layers of one precision within the block, whatever that of the process is."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
