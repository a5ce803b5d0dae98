"""An encoder that a user's module registers, and what makes it known."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.encoders import (
    build_encoder_variables,
    feature_shape,
    global_policy,
    image_shape_of,
)
from deeplens_tf.models.image_model import ImageEncoder
from deeplens_tf.models.image_shapes import checked_image_shape
from deeplens_tf.models.own_defaults import own_defaults, with_own_defaults
from deeplens_tf.registry import Entry, encoders


def register_encoder(name: str, build: Callable[..., keras.Model]) -> None:
    """Make an encoder known to configurations, `build_encoder`, `load_encoder` and `--help`.

    A file of such an encoder holds its name, its options and its weights. It is read where the
    same name is registered, and never imports or runs anything itself.

    Args:
        name: of the encoder, also in a configuration; an identifier that is not taken.
        build: takes image_shape, (height, width, bands), and options; returns a Keras model from
            images to vectors (batch, dim). An option has a type hint, such as `int`, `float`,
            `bool`, `str`, `Literal[...]` or `Annotated[int, Bounds(low=1)]`, and a default or
            none; a configuration sets it among the encoder's `options`.

    Raises:
        ValueError: a name that is taken or no identifier, or an option without a type hint.

    Example:
        >>> def convnet(image_shape, width: Annotated[int, Bounds(low=1, high=512)] = 32):
        ...     images = keras.Input(image_shape)
        ...     features = keras.layers.Conv2D(width, 3, activation="relu")(images)
        ...     return keras.Model(images, keras.layers.GlobalAveragePooling2D()(features))
        >>> register_encoder("convnet", convnet)
        >>> encoder = build_encoder("convnet", (64, 64, 1), width=16)
    """
    encoders.register(name, build)


def _network(entry: Entry, image_shape: tuple[int, ...], options: dict[str, Any]) -> keras.Model:
    try:
        return entry.build(image_shape=image_shape, **options)
    except ValueError as error:
        raise ValueError(
            f"the encoder {entry.name!r} cannot be built: {error}. "
            f"Received: image_shape={image_shape}, {options}"
        ) from error


@keras.saving.register_keras_serializable(package="deeplens_tf")
class RegisteredEncoder(ImageEncoder):
    """Image to feature vector by a network that `register_encoder` has made known.

    Args:
        encoder: registered name.
        image_shape: (height, width, bands).
        options: of the registered function; those left out have its defaults.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, dim), float32.

    Raises:
        ValueError: a name that is not registered, a wrong option, or a network that does not
            return one vector per image.
    """

    @with_own_defaults
    def __init__(
        self,
        encoder: str,
        image_shape: tuple[int, int, int],
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        entry = encoders.entry(encoder)
        self.encoder_name = encoder
        self.image_shape = checked_image_shape(image_shape)
        self.options = entry.checked(options or {})
        # A model that is loaded from a file keeps its own precision, not that of the process.
        with global_policy(self.dtype_policy):
            self.network = _network(entry, self.image_shape, dict(self.options))
        if image_shape_of(self.network) != self.image_shape:
            raise ValueError(
                f"build of the encoder {encoder!r} must return a model for images of "
                f"{self.image_shape}. Received: one for {image_shape_of(self.network)}"
            )
        self.dim = feature_shape(self.network)[1]

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Create the variables of the network."""
        with own_defaults():
            build_encoder_variables(self.network)
            self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the features of a batch of images."""
        return ops.cast(self.network(images, training=training), "float32")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, dim)."""
        return (input_shape[0], self.dim)

    def compute_output_spec(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the shape and the type of the features."""
        return KerasTensor(self.compute_output_shape(images.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"encoder": self.encoder_name, "image_shape": self.image_shape}
        return {**super().get_config(), **own, "options": dict(self.options)}
