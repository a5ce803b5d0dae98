"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), from small blocks to large."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.errors import RequestError

LAYER_NORM_EPSILON = 1e-6

# Width, depth and heads of tiny and small are those of DeiT (arXiv:2012.12877).
VARIANTS: dict[str, dict[str, Any]] = {
    # Trains on two CPU cores.
    "vit_nano": dict(patch_size=8, width=96, depth=4, heads=4, mlp_width=384),
    "vit_tiny": dict(patch_size=8, width=192, depth=12, heads=3, mlp_width=768),
    "vit_small": dict(patch_size=8, width=384, depth=12, heads=6, mlp_width=1536),
    # The original's network, layer for layer: four tokens on a 64-pixel image.
    "vit_b32_original": dict(
        patch_size=32,
        width=768,
        depth=12,
        heads=12,
        mlp_width=3072,
        pooling="class_token",
        dropout=0.1,
        position_stddev=0.06,
        original_top=True,
    ),
}


@keras.saving.register_keras_serializable(package="deeplens_tf")
class PatchEmbedding(keras.layers.Layer):
    """Cuts an image into patches and maps each to a token with its position.

    Args:
        patch_size: pixels a side of a patch; must divide both sides of the image.
        width: length of a token.
        class_token: prepend one learned token that belongs to no patch.
        position_stddev: spread of the learned positions at the start.

    Input shape:
        (batch, height, width, bands)

    Output shape:
        (batch, tokens, width), tokens row by row, the class token first.
    """

    def __init__(
        self,
        patch_size: int,
        width: int,
        class_token: bool = False,
        position_stddev: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.width = width
        self.class_token = class_token
        self.position_stddev = position_stddev
        self.projection = keras.layers.Conv2D(
            width, patch_size, strides=patch_size, dtype=self.dtype_policy, name="projection"
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Allocate the projection, the positions and the class token."""
        self.projection.build(input_shape)
        patches = (input_shape[1] // self.patch_size) * (input_shape[2] // self.patch_size)
        if self.class_token:
            self.token = self.add_weight(
                shape=(1, 1, self.width), initializer="zeros", name="class_token"
            )
        self.positions = self.add_weight(
            shape=(1, patches + int(self.class_token), self.width),
            initializer=keras.initializers.RandomNormal(stddev=self.position_stddev),
            name="positions",
        )

    def call(self, images: KerasTensor) -> KerasTensor:
        """Return the tokens of a batch of images."""
        tokens = self.projection(images)  # (batch, rows, columns, width)
        batch, rows, columns, _ = ops.shape(tokens)
        # Written out, for -1 is no number where a batch is empty.
        tokens = ops.reshape(tokens, (batch, rows * columns, self.width))
        if self.class_token:
            token = ops.broadcast_to(self.token, (batch, 1, self.width))
            tokens = ops.concatenate([token, tokens], axis=1)  # (batch, 1 + patches, width)
        return tokens + self.positions

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "width": self.width,
            "class_token": self.class_token,
            "position_stddev": self.position_stddev,
        }


@keras.saving.register_keras_serializable(package="deeplens_tf")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm block: tokens + attention(norm(tokens)), then + mlp(norm(tokens)).

    Args:
        heads: attention heads; they share the width equally.
        mlp_width: width of the perceptron's hidden layer; its activation is the exact GELU.
        dropout: rate after attention, in and after the perceptron.
        stochastic_depth: probability that an example skips a branch (arXiv:1603.09382).

    Input shape:
        (batch, tokens, width)

    Output shape:
        (batch, tokens, width)
    """

    def __init__(
        self,
        heads: int,
        mlp_width: int,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.mlp_width = mlp_width
        self.dropout = dropout
        self.stochastic_depth = stochastic_depth

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Allocate both branches for tokens of `input_shape[-1]` numbers."""
        width, policy = input_shape[-1], self.dtype_policy
        self.attention_norm = _layer_norm(policy, "attention_norm")
        self.attention = keras.layers.MultiHeadAttention(
            self.heads, key_dim=width // self.heads, dtype=policy, name="attention"
        )
        self.mlp_norm = _layer_norm(policy, "mlp_norm")
        self.mlp_in = keras.layers.Dense(
            self.mlp_width, activation="gelu", dtype=policy, name="mlp_in"
        )
        self.mlp_out = keras.layers.Dense(width, dtype=policy, name="mlp_out")
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy, name="drop")
        # One draw per example and branch is what stochastic depth is.
        self.skip = keras.layers.Dropout(
            self.stochastic_depth, noise_shape=(None, 1, 1), dtype=policy, name="skip"
        )
        self.attention.build(input_shape, input_shape)
        for layer in (self.attention_norm, self.mlp_norm, self.mlp_in):
            layer.build(input_shape)
        self.mlp_out.build((*input_shape[:-1], self.mlp_width))

    def call(self, tokens: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the transformed tokens."""
        normed = self.attention_norm(tokens)
        attended = self.drop(self.attention(normed, normed), training=training)
        tokens = tokens + self.skip(attended, training=training)
        hidden = self.drop(self.mlp_in(self.mlp_norm(tokens)), training=training)
        hidden = self.drop(self.mlp_out(hidden), training=training)  # (batch, tokens, width)
        return tokens + self.skip(hidden, training=training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
        }


@keras.saving.register_keras_serializable(package="deeplens_tf")
class VisionTransformer(keras.Model):
    """Image to feature vector by a transformer over patches.

    Args:
        image_shape: (height, width, bands).
        patch_size: pixels a side of a patch; must divide height and width.
        width: length of a token, divisible by `heads`.
        depth: number of blocks.
        heads: attention heads a block.
        mlp_width: hidden width of a block's perceptron.
        pooling: "average" of all tokens, or the "class_token".
        dropout: rate in the blocks.
        stochastic_depth: probability of skipping a branch in the last block; it rises
            linearly from 0 in the first.
        position_stddev: spread of the learned positions at the start.
        original_top: add the layers that the original puts on the class token.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, width); with `original_top` (batch, 256).

    Raises:
        RequestError: the patch does not divide the image, or the heads the width.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        pooling: str = "average",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        position_stddev: float = 0.02,
        original_top: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_divides(patch_size, image_shape, heads, width)
        self.image_shape = tuple(image_shape)
        self.options = {
            "patch_size": patch_size,
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_width": mlp_width,
            "pooling": pooling,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
            "position_stddev": position_stddev,
            "original_top": original_top,
        }
        self.pooling = pooling
        self.width = width
        # A model that is read from a file keeps its own precision, whatever the process's is.
        policy = self.dtype_policy
        self.embedding = PatchEmbedding(
            patch_size,
            width,
            pooling == "class_token",
            position_stddev,
            dtype=policy,
            name="embedding",
        )
        self.blocks = [
            TransformerBlock(
                heads,
                mlp_width,
                dropout,
                stochastic_depth * i / max(depth - 1, 1),
                dtype=policy,
                name=f"block_{i}",
            )
            for i in range(depth)
        ]
        self.norm = _layer_norm(policy, "norm")
        self.top = _original_top(width, policy) if original_top else None

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Allocate every layer; the image's shape is known from the constructor."""
        self.embedding.build((None, *self.image_shape))
        tokens = (None, self.embedding.positions.shape[1], self.width)
        for layer in (*self.blocks, self.norm):
            layer.build(tokens)
        if self.top is not None:
            self.top.build((None, self.width))
        self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the features of a batch of images."""
        return self.pool(self.transform(self.embedding(images), training), training)

    def transform(self, tokens: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Pass tokens, with their positions, through all blocks: (batch, tokens, width)."""
        for block in self.blocks:
            tokens = block(tokens, training=training)
        return self.norm(tokens)

    def pool(self, tokens: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Reduce transformed tokens to one vector per image: (batch, features)."""
        features = tokens[:, 0] if self.pooling == "class_token" else ops.mean(tokens, axis=1)
        return features if self.top is None else self.top(features, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, features)."""
        return (input_shape[0], self.width if self.top is None else self.top.output_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "image_shape": self.image_shape, **self.options}


def _layer_norm(policy: Any, name: str) -> keras.layers.LayerNormalization:
    return keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=policy, name=name)


def _original_top(width: int, policy: Any) -> keras.Sequential:
    """The layers of the original between the class token and its 256 features."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(width, activation="tanh", dtype=policy, name="representation"),
            layers.BatchNormalization(dtype=policy, name="norm_0"),
            layers.Dense(512, activation="gelu", dtype=policy, name="dense_1"),
            layers.Dropout(0.2, dtype=policy, name="drop_1"),
            layers.BatchNormalization(dtype=policy, name="norm_1"),
            layers.Dense(256, activation="gelu", dtype=policy, name="dense_2"),
            layers.BatchNormalization(dtype=policy, name="norm_2"),
        ],
        name="top",
    )


def _check_divides(
    patch_size: int, image_shape: tuple[int, int, int], heads: int, width: int
) -> None:
    height, image_width = image_shape[:2]
    if height % patch_size or image_width % patch_size:
        divisors = [n for n in range(2, height + 1) if not height % n and not image_width % n]
        raise RequestError(
            f"encoder.patch_size {patch_size} does not divide the image of {height} x "
            f"{image_width} pixels: one of {', '.join(map(str, divisors))} does"
        )
    if width % heads:
        raise RequestError(f"{heads} attention heads cannot share a width of {width}")
