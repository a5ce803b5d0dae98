"""The block of a Vision Transformer: self-attention and an MLP, each after a LayerNorm."""

import math
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.attention import SelfAttention
from deeplens_tf.models.own_defaults import with_own_defaults

LAYER_NORM_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="deeplens_tf")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm block: tokens + attention(norm(tokens)), then + mlp(norm(tokens)).

    Args:
        heads: attention heads; they share the width equally.
        mlp_width: hidden width of the MLP; its activation is the exact (erf) GELU.
        dropout: rate after attention, in and after the MLP.
        stochastic_depth: probability that an example skips a branch (arXiv:1603.09382).

    Input shape:
        (batch, tokens, width)

    Output shape:
        (batch, tokens, width)
    """

    @with_own_defaults
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

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create both branches for tokens of length `input_shape[-1]`."""
        width, policy = input_shape[-1], self.dtype_policy
        self.attention_norm = layer_norm(policy, "attention_norm")
        self.attention = SelfAttention(
            self.heads, key_dim=width // self.heads, dtype=policy, name="attention"
        )
        self.mlp_norm = layer_norm(policy, "mlp_norm")
        self.mlp_in = keras.layers.Dense(
            self.mlp_width, activation=gelu, dtype=policy, name="mlp_in"
        )
        self.mlp_out = keras.layers.Dense(width, dtype=policy, name="mlp_out")
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy, name="drop")
        # Stochastic depth draws once per example and branch.
        self.skip = keras.layers.Dropout(
            self.stochastic_depth, noise_shape=(None, 1, 1), dtype=policy, name="skip"
        )
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp_in):
            layer.build(input_shape)
        self.mlp_out.build((*input_shape[:-1], self.mlp_width))

    def call(self, tokens: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the transformed tokens, (batch, tokens, width)."""
        normed = self.attention_norm(tokens)
        attended = self.drop(self.attention(normed), training=training)
        tokens = tokens + self.skip(attended, training=training)
        hidden = self.drop(self.mlp_in(self.mlp_norm(tokens)), training=training)
        hidden = self.drop(self.mlp_out(hidden), training=training)  # (batch, tokens, width)
        return tokens + self.skip(hidden, training=training)

    def attention_shares(self, tokens: KerasTensor) -> KerasTensor:
        """Return how much each token takes of each, see `SelfAttention.shares`."""
        return self.attention.shares(self.attention_norm(tokens))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
        }


def gelu(x: KerasTensor) -> KerasTensor:
    """Return x times the normal distribution's cumulative function of x, as TensorFlow Addons did.

    Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2, exact. TensorFlow's own computes it by
    the complementary error function, which XLA's code for a CPU takes longer for.
    """
    return 0.5 * x * (1 + ops.erf(x * math.sqrt(0.5)))


def layer_norm(policy: Any, name: str) -> keras.layers.LayerNormalization:
    """Return the LayerNorm of a transformer, not built yet."""
    return keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=policy, name=name)
