"""An encoder with a head: the model that fine-tuning trains and `model.keras` contains."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.models.encoders import build_on_features, image_shape_of


@keras.saving.register_keras_serializable(package="deeplens_tf")
class DownstreamModel(keras.Model):
    """Image to class probabilities or to a mass: an encoder and a head on its features.

    Args:
        encoder: built model, image -> features.
        head: layer on the features.
        class_names: the classes in the order of the head's outputs; none for a regression.
        freeze: keep the encoder's weights and train the head only.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, classes), or that of `MassHead`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        head: keras.layers.Layer,
        class_names: tuple[str, ...] = (),
        freeze: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.class_names = tuple(class_names)
        self.freeze = freeze
        # Set twice: under TensorFlow, setting an attribute to its present value has no effect, and
        # the layers of an encoder that was saved frozen load as trainable.
        self.encoder.trainable = freeze
        self.encoder.trainable = not freeze
        self.build()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images that the encoder takes."""
        return image_shape_of(self.encoder)

    @property
    def head_name(self) -> str:
        """What the head predicts: "classification" or "regression"."""
        return "classification" if self.class_names else "regression"

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the head; the encoder is built already."""
        build_on_features(self.head, self.encoder)
        self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the head's output for a batch of images."""
        # A frozen encoder works as at inference: no dropout, fixed statistics.
        features = self.encoder(images, training=training and not self.freeze)
        return self.head(features)

    def get_build_config(self) -> dict[str, Any]:
        """Return an empty configuration: all shapes follow from the encoder's."""
        return {}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Create every variable, so that all values in the file are restored."""
        self.build()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        serialise = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialise(self.encoder),
            "head": serialise(self.head),
            "class_names": list(self.class_names),
            "freeze": self.freeze,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.Model:
        """Rebuild the model from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        nested = {key: restore(config[key]) for key in ("encoder", "head")}
        return cls(**{**config, **nested})
