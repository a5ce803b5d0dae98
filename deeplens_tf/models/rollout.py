"""Attention roll-out: how much of each patch reaches the features of a Vision Transformer.

Abnar and Zuidema 2020, arXiv:2005.00928, section 3, eq. 1. It follows the attention and the skip
connections through the blocks, and leaves out values, MLPs and norms.
"""

from collections.abc import Sequence

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.original_vit import OriginalViT
from deeplens_tf.models.vit import VisionTransformer


def transformer_of(encoder: keras.Model) -> VisionTransformer:
    """Return the Vision Transformer that an encoder is or is made of.

    Raises:
        ValueError: it has none whose attention is known.
    """
    transformer = encoder.transformer if isinstance(encoder, OriginalViT) else encoder
    if not isinstance(transformer, VisionTransformer):
        raise ValueError(
            "rollout needs a Vision Transformer of this package, whose attention is known; "
            f"occlusion explains any network. Received: {encoder.name}"
        )
    return transformer


def patch_shares(encoder: keras.Model, images: KerasTensor) -> KerasTensor:
    """Return how much of each patch reaches the pooled tokens, by attention roll-out.

    It is the row of the class token for an encoder that takes its features from it, without its
    share of itself, and the mean over all tokens' rows for one that averages them.

    Args:
        encoder: a `VisionTransformer` or an `OriginalViT`.
        images: shape (batch, height, width, bands), values in [0, 1].

    Returns:
        Shape (batch, rows, columns) of the patches, float32; the shares of an image sum to 1.

    Raises:
        ValueError: another encoder.
    """
    transformer = transformer_of(encoder)
    height, width, _ = transformer.image_shape
    side = transformer.options["patch_size"]
    rows = rollout(transformer.block_attention(images))  # (batch, tokens, tokens)
    first = transformer.pooling == "class_token"
    shares = rows[:, 0, 1:] if first else ops.mean(rows, axis=1)  # (batch, patches)
    shares = shares / ops.sum(shares, axis=-1, keepdims=True)
    return ops.reshape(shares, (-1, height // side, width // side))


def rollout(attention: Sequence[KerasTensor]) -> KerasTensor:
    """Return the product over the blocks of A = 0.5 (mean over heads) + 0.5 I (eq. 1).

    Args:
        attention: of each block, the first one first, each (batch, heads, tokens, tokens), whose
            rows sum to 1; at least one.

    Returns:
        Shape (batch, tokens, tokens), float32: row i is how much of each token of the first block
        is in token i after the last one; it sums to 1.
    """
    product = _with_skip(attention[0])
    for each in attention[1:]:
        product = ops.matmul(_with_skip(each), product)
    return product


def _with_skip(attention: KerasTensor) -> KerasTensor:
    mean = ops.mean(ops.cast(attention, "float32"), axis=1)
    mixed = 0.5 * mean + 0.5 * ops.eye(mean.shape[-1])
    return mixed / ops.sum(mixed, axis=-1, keepdims=True)
