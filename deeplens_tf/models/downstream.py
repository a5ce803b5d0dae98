"""An encoder with a head: what fine-tuning trains and `model.keras` holds."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.models.self_supervised import build_on_features


@keras.saving.register_keras_serializable(package="deeplens_tf")
class DownstreamModel(keras.Model):
    """Image to class probabilities or to a mass: an encoder and a head on its features.

    Args:
        encoder: built model, image -> features.
        head: layer on the features.
        class_names: the classes in the order of the head's outputs; none for a regression.
        freeze: leave the encoder as it is and train the head alone.

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
        # Twice: an attribute set to what it already is goes unnoticed under TensorFlow, and the
        # layers of an encoder that was saved frozen load as trainable.
        self.encoder.trainable = freeze
        self.encoder.trainable = not freeze
        self.build()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images that the encoder takes."""
        return self.encoder.image_shape

    @property
    def head_name(self) -> str:
        """What the head predicts: "classification" or "regression"."""
        return "classification" if self.class_names else "regression"

    def build(self, input_shape: Any = None) -> None:
        """Allocate the head; the encoder comes built."""
        build_on_features(self.head, self.encoder)
        self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the head's output for a batch of images."""
        # A frozen encoder is used as it will be at inference: no dropout, fixed statistics.
        features = self.encoder(images, training=training and not self.freeze)
        return self.head(features)

    def get_build_config(self) -> dict[str, Any]:
        """Return an empty recipe: all shapes follow from the encoder's."""
        return {}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Allocate every variable, so that the file's values find their place."""
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
