"""Self-attention of a Vision Transformer, computed in fewer and larger steps than Keras's."""

import math
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.own_defaults import with_own_defaults


@keras.saving.register_keras_serializable(package="deeplens_tf")
class SelfAttention(keras.layers.MultiHeadAttention):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2).

    It has the variables and the result of Keras's layer, without its masks and dropout. Two things
    make a training step faster on a CPU: the projections multiply the tokens of all images as one
    matrix, of which the kernels' gradients are single products too, and the sums of the softmax
    divide the short result instead of all pairs of tokens.

    Args:
        heads: number of heads.
        key_dim: length of a head's queries, keys and values.

    Input shape:
        (batch, tokens, width)

    Output shape:
        (batch, tokens, width)
    """

    @with_own_defaults
    def __init__(
        self, heads: int, key_dim: int, *, dtype: Any = None, name: str | None = None
    ) -> None:
        super().__init__(heads, key_dim, dtype=dtype, name=name)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the projections for tokens of length `input_shape[-1]`."""
        super().build(input_shape, input_shape)

    def call(self, tokens: KerasTensor) -> KerasTensor:
        """Return the attended tokens, (batch, tokens, width)."""
        weights, sums, value = self._weights_and_value(tokens)
        attended = ops.matmul(weights, value) / sums
        attended = ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (-1, self._joint_width))
        return ops.reshape(_affine(attended, self.output_dense), ops.shape(tokens))

    def shares(self, tokens: KerasTensor) -> KerasTensor:
        """Return how `call` weights the values: (batch, heads, tokens, tokens).

        Row i is how much of each token's value token i takes; it sums to 1.
        """
        weights, sums, _ = self._weights_and_value(tokens)
        return weights / sums

    def _weights_and_value(
        self, tokens: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        """Return the weights before they are divided by their sums, these, and the values."""
        shape = ops.shape(tokens)
        rows = ops.reshape(tokens, (-1, shape[-1]))  # (batch x tokens, width)
        projections = (self.query_dense, self.key_dense, self.value_dense)
        query, key, value = (self._heads(_affine(rows, layer), shape[1]) for layer in projections)
        scores = ops.matmul(query * self.key_dim**-0.5, ops.transpose(key, (0, 1, 3, 2)))
        weights, sums = _unnormalised_softmax(scores)  # (batch, heads, tokens, tokens or 1)
        return weights, sums, value  # (batch, heads, tokens, dim)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the tokens."""
        return input_shape

    def compute_output_spec(self, tokens: KerasTensor) -> KerasTensor:
        """Return the shape and the type of the attended tokens."""
        return KerasTensor(tokens.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        kept = {key: config[key] for key in ("name", "dtype", "key_dim")}
        return {**kept, "heads": self.num_heads}

    @property
    def _joint_width(self) -> int:
        return self.num_heads * self.key_dim

    def _heads(self, rows: KerasTensor, tokens: int) -> KerasTensor:
        """Split rows (batch x tokens, heads x dim) into (batch, heads, tokens, dim)."""
        split = ops.reshape(rows, (-1, tokens, self.num_heads, self.key_dim))
        return ops.transpose(split, (0, 2, 1, 3))


def _affine(rows: KerasTensor, layer: Any) -> KerasTensor:
    """Apply a projection of Keras's layer, whose kernel has an axis of heads, to a matrix."""
    kernel = ops.reshape(layer.kernel, (rows.shape[-1], -1))
    return ops.matmul(rows, kernel) + ops.reshape(layer.bias, (-1,))


def _unnormalised_softmax(scores: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """Return exp(scores - maximum) and its sums over the last axis; their ratio is the softmax."""
    # At least in float32, since half precision is too coarse for the sums.
    exact = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    # A constant cancels in the ratio and has no gradient. `initial` lets an empty batch pass.
    maximum = ops.max(exact, axis=-1, keepdims=True, initial=-math.inf)
    weights = ops.exp(exact - ops.stop_gradient(maximum))
    sums = ops.sum(weights, axis=-1, keepdims=True)
    return ops.cast(weights, scores.dtype), ops.cast(sums, scores.dtype)
