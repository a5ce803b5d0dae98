"""The original's ViT-B/32 in Keras 2, with the layer names of its files."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_addons as tfa
from tensorflow.keras import layers

from parity.exchange import named
from parity.variables import Variables, of_layer

PATCH, WIDTH, DEPTH, HEADS, MLP_WIDTH = 32, 768, 12, 12, 3072
EPSILON = 1e-6
SPREAD = 0.06  # standard deviation of the initial positions


class ClassToken(layers.Layer):
    """Prepends one learned token to those of the patches."""

    def build(self, shape: tf.TensorShape) -> None:
        """Allocate the token."""
        self.token = self.add_weight("dummy_input", (1, 1, shape[-1]), initializer="zeros")

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return (batch, 1 + patches, width)."""
        first = tf.repeat(self.token, tf.shape(tokens)[0], axis=0)
        return tf.concat([first, tokens], axis=1)


class Positions(layers.Layer):
    """Adds a learned position to each token."""

    def build(self, shape: tf.TensorShape) -> None:
        """Allocate the positions."""
        drawn = tf.keras.initializers.RandomNormal(stddev=SPREAD)
        self.positions = self.add_weight("pos_embedding", (1, *shape[1:]), initializer=drawn)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return the tokens with their positions."""
        return tokens + self.positions


class Attention(layers.Layer):
    """Attention of all heads together, from four Dense layers."""

    def build(self, shape: tf.TensorShape) -> None:
        """Create the layers; their names are parts of the names in the file."""
        for name in ("query", "key", "value", "out"):
            setattr(self, name, layers.Dense(shape[-1], name=name))

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return (batch, tokens, width)."""
        query, key, value = (
            self._heads(part(tokens)) for part in (self.query, self.key, self.value)
        )
        scores = tf.einsum("bhqd,bhkd->bhqk", query, key)
        weights = tf.nn.softmax(scores / tf.sqrt(tf.cast(key.shape[-1], scores.dtype)))
        mixed = tf.einsum("bhqk,bhkd->bqhd", weights, value)
        return self.out(tf.reshape(mixed, tf.shape(tokens)))

    def _heads(self, tokens: tf.Tensor) -> tf.Tensor:
        batch, width = tf.shape(tokens)[0], tokens.shape[-1]
        split = tf.reshape(tokens, (batch, -1, HEADS, width // HEADS))
        return tf.transpose(split, (0, 2, 1, 3))  # (batch, heads, tokens, width of a head)


class Block(layers.Layer):
    """One pre-norm block of the encoder."""

    def __init__(self, dropout: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rate = dropout

    def build(self, shape: tf.TensorShape) -> None:
        """Create the layers here, as the original does, which determines the names in the file."""
        self.attention = Attention(name="MultiHeadDotProductAttention_1")
        self.mlp = tf.keras.Sequential(
            [
                layers.Dense(MLP_WIDTH, name=f"{self.name}/Dense_0"),
                layers.Lambda(lambda x: tfa.activations.gelu(x, approximate=False)),
                layers.Dropout(self.rate),
                layers.Dense(shape[-1], name=f"{self.name}/Dense_1"),
                layers.Dropout(self.rate),
            ],
            name="MlpBlock_3",
        )
        self.norm_1 = layers.LayerNormalization(epsilon=EPSILON, name="LayerNorm_0")
        self.norm_2 = layers.LayerNormalization(epsilon=EPSILON, name="LayerNorm_2")
        self.drop = layers.Dropout(self.rate)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return the transformed tokens."""
        tokens = tokens + self.drop(self.attention(self.norm_1(tokens)))
        return tokens + self.mlp(self.norm_2(tokens))


def vision_transformer(image_shape: tuple[int, int, int], dropout: float = 0.1) -> tf.keras.Model:
    """Return the encoder: (batch, height, width, bands) -> (batch, 256)."""
    return tf.keras.Sequential([_body(image_shape, dropout), _top(dropout)], name="modified_vit")


def _body(image_shape: tuple[int, int, int], dropout: float) -> tf.keras.Model:
    images = tf.keras.Input(image_shape)
    patches = layers.Conv2D(WIDTH, PATCH, strides=PATCH, name="embedding")(images)
    tokens = layers.Reshape((-1, WIDTH))(patches)
    tokens = ClassToken(name="dummy_input")(tokens)
    tokens = Positions(name="Transformer/posembed_input")(tokens)
    for i in range(DEPTH):
        tokens = Block(dropout, name=f"Transformer/encoderblock_{i}")(tokens)
    tokens = layers.LayerNormalization(epsilon=EPSILON, name="Transformer/encoder_norm")(tokens)
    token = layers.Lambda(lambda tokens: tokens[:, 0], name="ExtractToken")(tokens)
    return tf.keras.Model(images, layers.Dense(WIDTH, "tanh", name="pre_logits")(token))


def _top(dropout: float) -> tf.keras.Sequential:
    gelu = tfa.activations.gelu
    return tf.keras.Sequential(
        [
            layers.BatchNormalization(),
            layers.Dense(512, lambda x: gelu(x, approximate=False)),
            layers.Dropout(0.2 if dropout else 0.0),
            layers.BatchNormalization(),
            layers.Dense(256, lambda x: gelu(x, approximate=False)),
            layers.BatchNormalization(),
        ],
        name="modified_vit_top",
    )


def variables(encoder: tf.keras.Model) -> Variables:
    """Return the encoder's variables under the names of the given weights."""
    body, top = encoder.layers
    found = of_layer("embedding/projection", body.get_layer("embedding"))
    found["embedding/class_token"] = body.get_layer("dummy_input").token
    found["embedding/positions"] = body.get_layer("Transformer/posembed_input").positions
    for i in range(DEPTH):
        block = body.get_layer(f"Transformer/encoderblock_{i}")
        found |= named(f"block_{i}", block_variables(block))
    found |= of_layer("norm", body.get_layer("Transformer/encoder_norm"))
    found |= of_layer("top/representation", body.get_layer("pre_logits"))
    weighted = [layer for layer in top.layers if layer.weights]
    for i, name in enumerate(("norm_0", "dense_1", "norm_1", "dense_2", "norm_2")):
        found |= of_layer(f"top/{name}", weighted[i])
    return found


def block_variables(block: Block) -> Variables:
    """Return a block's variables under the names of the given weights."""
    attention, mlp = block.attention, block.mlp.layers
    parts = {
        "attention/query": attention.query,
        "attention/key": attention.key,
        "attention/value": attention.value,
        "attention/attention_output": attention.out,
        "attention_norm": block.norm_1,
        "mlp_norm": block.norm_2,
        "mlp_in": mlp[0],
        "mlp_out": mlp[3],
    }
    found: Variables = {}
    for name, layer in parts.items():
        found |= of_layer(name, layer)
    return found
