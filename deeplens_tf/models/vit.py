"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), from small blocks to large."""

import math
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.image_model import ImageEncoder
from deeplens_tf.models.image_shapes import checked_image_shape
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.patches import choose
from deeplens_tf.models.transformer_block import TransformerBlock, layer_norm

POOLINGS = ("average", "class_token")

# Width, depth and heads of tiny and small are those of DeiT (arXiv:2012.12877).
VARIANTS: dict[str, dict[str, Any]] = {
    # Trains on two CPU cores.
    "vit_nano": dict(patch_size=8, width=96, depth=4, heads=4, mlp_width=384),
    "vit_tiny": dict(patch_size=8, width=192, depth=12, heads=3, mlp_width=768),
    "vit_small": dict(patch_size=8, width=384, depth=12, heads=6, mlp_width=1536),
    # The transformer in the original's network: four tokens on a 64-pixel image.
    "vit_b32_original": dict(
        patch_size=32,
        width=768,
        depth=12,
        heads=12,
        mlp_width=3072,
        pooling="class_token",
        dropout=0.1,
        position_stddev=0.06,
    ),
}


@keras.saving.register_keras_serializable(package="deeplens_tf")
class PatchEmbedding(keras.layers.Layer):
    """Cuts an image into patches and maps each to a token, adding a learned position.

    Args:
        patch_size: side of a patch in pixels; divides both sides of the image.
        width: length of a token.
        class_token: prepend one learned token that belongs to no patch.
        position_stddev: standard deviation of the initial positions.

    Input shape:
        (batch, height, width, bands)

    Output shape:
        (batch, tokens, width), tokens row by row, the class token first.
    """

    @with_own_defaults
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
            width,
            patch_size,
            strides=patch_size,
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the projection, the positions and the class token."""
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
        # Written out, since -1 is ambiguous for an empty batch.
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
class VisionTransformer(ImageEncoder):
    """Image to feature vector by a transformer over patches.

    Args:
        image_shape: (height, width, bands).
        patch_size: side of a patch in pixels; divides height and width.
        width: length of a token, divisible by `heads`.
        depth: number of blocks.
        heads: attention heads per block.
        mlp_width: hidden width of a block's MLP.
        pooling: "average" of all tokens, or the "class_token".
        dropout: rate in the blocks.
        stochastic_depth: probability of skipping a branch in the last block; it rises
            linearly from 0 in the first.
        position_stddev: standard deviation of the initial positions.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, width), float32 under any precision policy.

    Raises:
        ValueError: an image shape that is not known, a patch that does not divide the image, heads
            that do not divide the width, or an unknown pooling.
    """

    @with_own_defaults
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        image_shape = checked_image_shape(image_shape)
        _check_divisors(patch_size, image_shape, heads, width)
        if pooling not in POOLINGS:
            raise ValueError(
                f"pooling must be one of {', '.join(POOLINGS)}. Received: pooling={pooling!r}"
            )
        self.image_shape = image_shape
        self.options: dict[str, Any] = {
            "patch_size": patch_size,
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_width": mlp_width,
            "pooling": pooling,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
            "position_stddev": position_stddev,
        }
        self.pooling = pooling
        self.width = width
        # A model that is loaded from a file keeps its own precision, not that of the process.
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
        self.norm = layer_norm(policy, "norm")

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Create every variable; the constructor knows the image's shape."""
        self.build_layers()
        self.built = True

    def build_layers(self) -> None:
        """Create every variable, in the name scope of the caller."""
        self.embedding.build((None, *self.image_shape))
        tokens = (None, self.embedding.positions.shape[1], self.width)
        for layer in (*self.blocks, self.norm):
            layer.build(tokens)

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the features of a batch of images."""
        return self.pool(self.transform(self.embedding(images), training))

    @property
    def stages(self) -> list[list[keras.layers.Layer]]:
        """The embedding of the patches, then each block."""
        return [[self.embedding], *([block] for block in self.blocks)]

    @property
    def patch_count(self) -> int:
        """Number of patches of an image."""
        patch = self.options["patch_size"]
        return (self.image_shape[0] // patch) * (self.image_shape[1] // patch)

    def encode_kept(
        self, images: KerasTensor, kept: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Return the features of some patches of each image: the others are dropped.

        Args:
            images: shape (batch, height, width, bands).
            kept: the patches that are kept, numbered row by row, shape (batch, kept), integers.
            training: whether dropout is active.

        Returns:
            Shape (batch, width), float32.
        """
        return self.pool(self.transform_kept(images, kept, training))

    def transform_kept(
        self, images: KerasTensor, kept: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Return the transformed tokens of some patches; the arguments are those of `encode_kept`.

        They are chosen after the positions are added, so each keeps that of its patch.

        Returns:
            Shape (batch, [1 +] kept, width), the class token first where there is one.
        """
        tokens = self.embedding(images)  # (batch, [1 +] patches, width)
        first = tokens.shape[1] - self.patch_count
        chosen = choose(tokens[:, first:], kept)
        return self.transform(ops.concatenate([tokens[:, :first], chosen], axis=1), training)

    def transform(self, tokens: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Apply all blocks to embedded tokens: (batch, tokens, width)."""
        for block in self.blocks:
            tokens = block(tokens, training=training)
        return self.norm(tokens)

    def pool(self, tokens: KerasTensor) -> KerasTensor:
        """Reduce transformed tokens to one vector per image: (batch, width), float32."""
        first = self.pooling == "class_token"
        return ops.cast(tokens[:, 0] if first else ops.mean(tokens, axis=1), "float32")

    def block_tokens(self, images: KerasTensor, training: bool | None = None) -> list[KerasTensor]:
        """Return the tokens after each block, for probes of any depth.

        Args:
            images: shape (batch, height, width, bands).
            training: whether dropout is active.

        Returns:
            One array per block, each (batch, tokens, width), with the class token first where
            there is one. The last one is not normalised yet.
        """
        tokens, found = self.embedding(images), []
        for block in self.blocks:
            tokens = block(tokens, training=training)
            found.append(tokens)
        return found

    def block_attention(self, images: KerasTensor) -> list[KerasTensor]:
        """Return the attention of each block at inference, for pictures of it.

        Args:
            images: shape (batch, height, width, bands).

        Returns:
            One array per block, each (batch, heads, tokens, tokens): row i is how much token i
            takes of each token, with the class token first where there is one.
        """
        tokens, found = self.embedding(images), []
        for block in self.blocks:
            found.append(block.attention_shares(tokens))
            tokens = block(tokens, training=False)
        return found

    def with_image_size(self, height: int, width: int) -> "VisionTransformer":
        """Return a copy for another image size, its positions resampled bilinearly.

        The copy has no `preprocessing`: set that of its images.

        Args:
            height: of the images in pixels; a multiple of the patch size.
            width: of the images in pixels; a multiple of the patch size.

        Raises:
            ValueError: the patch does not divide the image.
        """
        shape = (height, width, self.image_shape[2])
        config = {**self.get_config(), "image_shape": shape, "preprocessing": None}
        copy = type(self).from_config(config)
        copy.build()
        for ours, theirs in zip(self.weights, copy.weights, strict=True):
            resampled = ours is self.embedding.positions
            theirs.assign(self._positions_for(height, width) if resampled else ours)
        return copy

    def _positions_for(self, height: int, width: int) -> KerasTensor:
        """Resample the grid of positions: (1, [1 +] patches, width)."""
        patch = self.options["patch_size"]
        positions = ops.cast(self.embedding.positions, "float32")
        first = int(self.pooling == "class_token")
        old = (self.image_shape[0] // patch, self.image_shape[1] // patch)
        new = (height // patch, width // patch)
        grid = ops.reshape(positions[:, first:], (1, *old, self.width))
        grid = ops.image.resize(grid, new, interpolation="bilinear", data_format="channels_last")
        grid = ops.reshape(grid, (1, new[0] * new[1], self.width))
        return ops.concatenate([positions[:, :first], grid], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, width)."""
        return (input_shape[0], self.width)

    def compute_output_spec(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the shape and the type of the features."""
        return KerasTensor(self.compute_output_shape(images.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "image_shape": self.image_shape, **self.options}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.Model:
        """Rebuild the model from `get_config`.

        In earlier versions this class had an option `original_top`; with it, the model is an
        `OriginalViT` now.
        """
        config = dict(config)
        if config.pop("original_top", False):
            from deeplens_tf.models.original_vit import OriginalViT

            return OriginalViT.from_config(config)
        return cls(**config)


def _check_divisors(
    patch_size: int, image_shape: tuple[int, int, int], heads: int, width: int
) -> None:
    if min(patch_size, heads, width) < 1:
        raise ValueError(
            "patch_size, heads and width must be positive. "
            f"Received: patch_size={patch_size}, heads={heads}, width={width}"
        )
    height, image_width = image_shape[:2]
    if height % patch_size or image_width % patch_size:
        common = math.gcd(height, image_width)
        divisors = [n for n in range(2, common + 1) if common % n == 0] or [1]
        raise ValueError(
            f"patch_size must divide the image of {height} x {image_width} pixels, as "
            f"{', '.join(map(str, divisors))} do. Received: patch_size={patch_size}"
        )
    if width % heads:
        raise ValueError(f"heads must divide width={width}. Received: heads={heads}")
