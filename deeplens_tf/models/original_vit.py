"""The original project's Vision Transformer: a ViT with further layers on its class token."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.image_model import ImageEncoder
from deeplens_tf.models.own_defaults import own_defaults, with_own_defaults
from deeplens_tf.models.vit import PatchEmbedding, VisionTransformer

TOP_WIDTHS = (512, 256)


@keras.saving.register_keras_serializable(package="deeplens_tf")
class OriginalViT(ImageEncoder):
    """Image to 256 features: a `VisionTransformer` and the original's layers on its output.

    The layers are Dense(width, tanh), BatchNorm, Dense(512, gelu), Dropout 0.2, BatchNorm,
    Dense(256, gelu), BatchNorm. The tokens of its blocks are available from its `transformer`.

    Args:
        image_shape: (height, width, bands).
        **options: options of `VisionTransformer`.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, 256), float32 under any precision policy.

    Raises:
        ValueError: those of `VisionTransformer`.
    """

    @with_own_defaults
    def __init__(self, image_shape: tuple[int, int, int], **options: Any) -> None:
        keys = ("name", "dtype", "trainable", "preprocessing")
        own = {key: options.pop(key) for key in keys if key in options}
        super().__init__(**own)
        # Of the same name, and built within this model's scope, so that the variables have the
        # paths of checkpoints from earlier versions, and initial values in the same order.
        self.transformer = VisionTransformer(
            image_shape, **options, dtype=self.dtype_policy, name=self.name
        )
        self.top = _top(self.transformer.width, self.dtype_policy)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, bands) of the images."""
        return self.transformer.image_shape

    @property
    def patch_count(self) -> int:
        """Number of patches of an image."""
        return self.transformer.patch_count

    @property
    def stages(self) -> list[list[keras.layers.Layer]]:
        """Those of the transformer."""
        return self.transformer.stages

    @property
    def options(self) -> dict[str, Any]:
        """Options of the transformer."""
        return self.transformer.options

    # A file names variables by the attributes that lead to them. With these, the names are those
    # of files from earlier versions, in which the top belonged to the transformer itself.
    @property
    def embedding(self) -> PatchEmbedding:
        """Embedding of the transformer."""
        return self.transformer.embedding

    @property
    def blocks(self) -> list[keras.layers.Layer]:
        """Blocks of the transformer."""
        return self.transformer.blocks

    @property
    def norm(self) -> keras.layers.Layer:
        """Last normalisation of the transformer."""
        return self.transformer.norm

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """Layers of the transformer, and the top."""
        return [*self.transformer.layers, self.top]

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Create every variable."""
        with own_defaults():
            self.transformer.build_layers()
            self.transformer.built = True
            self.top.build((None, self.transformer.width))
            self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the features of a batch of images."""
        return self._on_top(self.transformer(images, training=training), training)

    def encode_kept(
        self, images: KerasTensor, kept: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Return the features of some patches of each image, as `VisionTransformer` does."""
        return self._on_top(self.transformer.encode_kept(images, kept, training), training)

    def _on_top(self, features: KerasTensor, training: bool | None) -> KerasTensor:
        return ops.cast(self.top(features, training=training), "float32")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, 256)."""
        return (input_shape[0], TOP_WIDTHS[-1])

    def compute_output_spec(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the shape and the type of the features."""
        return KerasTensor(self.compute_output_shape(images.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "image_shape": self.image_shape, **self.options}


def _top(width: int, policy: Any) -> keras.Sequential:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(width, activation="tanh", dtype=policy, name="representation"),
            layers.BatchNormalization(dtype=policy, name="norm_0"),
            layers.Dense(TOP_WIDTHS[0], activation="gelu", dtype=policy, name="dense_1"),
            layers.Dropout(0.2, dtype=policy, name="drop_1"),
            layers.BatchNormalization(dtype=policy, name="norm_1"),
            layers.Dense(TOP_WIDTHS[1], activation="gelu", dtype=policy, name="dense_2"),
            layers.BatchNormalization(dtype=policy, name="norm_2"),
        ],
        name="top",
    )
