"""A network with its preprocessing inside, the form in which models are exported."""

import json
import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.models.encoders import feature_shape
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.raw_pixels import RawPixels
from deeplens_tf.preprocessing.preprocessing import Preprocessing


@keras.saving.register_keras_serializable(package="deeplens_tf")
class RawImageModel(keras.Model):
    """Raw pixels, as files have them, to what a network says of the images.

    An image that `Preprocessing.apply` refuses gets NaN in every output.

    Args:
        network: an encoder or a fine-tuned model, which keeps its preprocessing.
        about: plain data that describe the export.

    Input shape:
        `(batch, *RawPixels.input_shape)`, float32.

    Output shape:
        That of the network.

    Raises:
        ValueError: the preprocessing is unknown, or a graph cannot hold it.
    """

    @with_own_defaults
    def __init__(
        self, network: keras.Model, about: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        how = getattr(network, "preprocessing", None)
        if not isinstance(how, Preprocessing):
            raise ValueError("it does not record the preprocessing of its images")
        self.network = network
        self.raw_pixels = RawPixels(how)
        self.about = json.dumps(about or {})
        self.built = True

    @property
    def output(self) -> tuple[str, list[str]]:
        """Name of the output, and of its columns; those of features have none."""
        network = self.network
        if not isinstance(network, DownstreamModel):
            return "features", []
        if network.class_names:
            return "probabilities", list(network.class_names)
        return "prediction", list(network.target.headers[1 : 2 + network.head.gaussian])

    @property
    def width(self) -> int:
        """Number of outputs of an image."""
        return len(self.output[1]) or feature_shape(self.network)[1]

    def call(self, images: KerasTensor) -> KerasTensor:
        """Return the network's output for raw images."""
        pixels, usable = self.raw_pixels(images)
        outputs = self.network(pixels, training=False)
        return ops.where(ops.expand_dims(usable, -1), outputs, math.nan)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, outputs)."""
        return input_shape[0], self.width

    def compute_output_spec(self, images: KerasTensor) -> KerasTensor:
        """Return the shape and the type of the outputs."""
        return KerasTensor(self.compute_output_shape(images.shape), dtype="float32")

    def get_build_config(self) -> dict[str, Any]:
        """Return an empty configuration: all shapes follow from the network's."""
        return {}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Do nothing: the network has its variables."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the network serialised."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "about": json.loads(self.about)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.Model:
        """Rebuild the model from `get_config`."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})
