"""ResNet50 (He et al. 2015, arXiv:1512.03385) with random weights and the original's top."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.encoders import global_policy
from deeplens_tf.models.image_model import ImageEncoder
from deeplens_tf.models.image_shapes import checked_image_shape
from deeplens_tf.models.own_defaults import own_defaults, with_own_defaults

MIN_SIDE = 32


@keras.saving.register_keras_serializable(package="deeplens_tf")
class ResNet50(ImageEncoder):
    """Image to feature vector: `keras.applications.ResNet50`, average pooling, three layers.

    The pooled 2048 features go through the original's layers: Dense(8w), BatchNorm, Dropout 0.5,
    Dense(4w), BatchNorm, Dropout 0.5, Dense(w), BatchNorm, Dropout 0.3, all with relu; or, as in
    the original's regression, through Dense(w, relu) only.

    Args:
        image_shape: (height, width, bands), at least 32 pixels a side.
        top_width: w; the original has 256 for contrastive learning, 128 for BYOL and regression.
        plain_top: use Dense(w, relu) only.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, top_width), float32 under any precision policy.

    Raises:
        ValueError: an image shape that is not known, or an image smaller than 32 pixels a side,
            which is halved five times.
    """

    @with_own_defaults
    def __init__(
        self,
        image_shape: tuple[int, int, int],
        top_width: int = 256,
        plain_top: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape = checked_image_shape(image_shape)
        if min(self.image_shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"image_shape must have {MIN_SIDE} pixels a side or more for a ResNet50. "
                f"Received: image_shape={self.image_shape}"
            )
        self.top_width = top_width
        self.plain_top = plain_top
        # A model that is loaded from a file keeps its own precision, not that of the process.
        with global_policy(self.dtype_policy):
            self.backbone = keras.applications.ResNet50(
                include_top=False, weights=None, input_shape=self.image_shape, pooling="avg"
            )
            self.top = _plain_top(top_width) if plain_top else _original_top(top_width)

    @property
    def stages(self) -> list[list[keras.layers.Layer]]:
        """The first convolution, then the four groups of blocks between which the image shrinks."""
        names = [f"conv{number}_" for number in range(1, 6)]
        layers = self.backbone.layers
        return [[layer for layer in layers if layer.name.startswith(name)] for name in names]

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Create the variables of the top; the backbone has its own already."""
        with own_defaults():
            self.top.build(self.backbone.output_shape)
            self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the features of a batch of images."""
        features = self.top(self.backbone(images, training=training), training=training)
        return ops.cast(features, "float32")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, features)."""
        return (input_shape[0], self.top_width)

    def compute_output_spec(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the shape and the type of the features."""
        return KerasTensor(self.compute_output_shape(images.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "image_shape": self.image_shape,
            "top_width": self.top_width,
            "plain_top": self.plain_top,
        }


def _original_top(width: int) -> keras.Sequential:
    layers = []
    for i, (size, rate) in enumerate([(8 * width, 0.5), (4 * width, 0.5), (width, 0.3)]):
        layers += [
            keras.layers.Dense(size, activation="relu", name=f"dense_{i}"),
            keras.layers.BatchNormalization(name=f"norm_{i}"),
            keras.layers.Dropout(rate, name=f"drop_{i}"),
        ]
    return keras.Sequential(layers, name="top")


def _plain_top(width: int) -> keras.Sequential:
    return keras.Sequential(
        [keras.layers.Dense(width, activation="relu", name="dense")], name="top"
    )
