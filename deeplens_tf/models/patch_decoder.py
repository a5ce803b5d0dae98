"""The decoder of a masked autoencoder: tokens of visible patches to the pixels of all."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.patches import choose
from deeplens_tf.models.transformer_block import TransformerBlock, layer_norm

MLP_RATIO = 4


@keras.saving.register_keras_serializable(package="deeplens_tf")
class PatchDecoder(keras.layers.Layer):
    """Inserts a learned token for each missing patch and predicts the pixels of every patch.

    He et al. 2021, arXiv:2111.06377, section 3; positions are learned.

    Args:
        patches: patches per image.
        patch_pixels: values in a patch, all bands.
        width: length of the decoder's tokens.
        depth: number of blocks.
        heads: attention heads per block; they divide the width.
        class_token: whether the encoder's first token belongs to no patch.

    Input shape:
        tokens (batch, visible, encoder width), with the class token first where there is one;
        order (batch, patches): indices of the visible patches, then of the missing ones.

    Output shape:
        (batch, patches, patch_pixels), float32, patches row by row.
    """

    @with_own_defaults
    def __init__(
        self,
        patches: int,
        patch_pixels: int,
        width: int,
        depth: int,
        heads: int,
        class_token: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patches = patches
        self.patch_pixels = patch_pixels
        self.width = width
        self.depth = depth
        self.heads = heads
        self.class_token = class_token
        policy = self.dtype_policy
        self.embedding = keras.layers.Dense(width, dtype=policy, name="embedding")
        self.blocks = [
            TransformerBlock(heads, MLP_RATIO * width, dtype=policy, name=f"block_{i}")
            for i in range(depth)
        ]
        self.norm = layer_norm(policy, "norm")
        self.pixels = keras.layers.Dense(patch_pixels, dtype="float32", name="pixels")

    def build(self, tokens_shape: tuple[int | None, ...], order_shape: Any = None) -> None:
        """Create every layer for tokens of length `tokens_shape[-1]`."""
        self.mask_token = self.add_weight(
            shape=(1, 1, self.width), initializer="zeros", name="mask_token"
        )
        all_tokens = (None, self.patches + int(self.class_token), self.width)
        self.positions = self.add_weight(
            shape=(1, *all_tokens[1:]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="positions",
        )
        self.embedding.build(tokens_shape)
        for layer in (*self.blocks, self.norm, self.pixels):
            layer.build(all_tokens)

    def call(
        self, tokens: KerasTensor, order: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Return the predicted pixels of every patch."""
        first = int(self.class_token)
        tokens = self.embedding(tokens)  # (batch, [1 +] visible, width)
        filled = self._fill(tokens[:, first:], order)
        tokens = ops.concatenate([tokens[:, :first], filled], axis=1) + self.positions
        for block in self.blocks:
            tokens = block(tokens, training=training)
        return self.pixels(self.norm(tokens)[:, first:])

    def _fill(self, visible: KerasTensor, order: KerasTensor) -> KerasTensor:
        """Order tokens by patch: (batch, visible, width) -> (batch, patches, width)."""
        missing = (ops.shape(visible)[0], self.patches - visible.shape[1], self.width)
        masks = ops.broadcast_to(ops.cast(self.mask_token, visible.dtype), missing)
        # The inverse of a permutation sorts it.
        return choose(ops.concatenate([visible, masks], axis=1), ops.argsort(order, axis=1))

    def compute_output_shape(
        self, tokens_shape: tuple[int | None, ...], order_shape: Any = None
    ) -> tuple[int | None, int, int]:
        """Return (batch, patches, patch_pixels)."""
        return (tokens_shape[0], self.patches, self.patch_pixels)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "patches": self.patches,
            "patch_pixels": self.patch_pixels,
            "width": self.width,
            "depth": self.depth,
            "heads": self.heads,
            "class_token": self.class_token,
        }
