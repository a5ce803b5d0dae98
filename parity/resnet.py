"""The original's ResNet50 encoders in Keras 2."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.keras import layers

from parity.variables import Variables, of_layer


def resnet50(
    image_shape: tuple[int, int, int], width: int, dropout: bool = True, plain: bool = False
) -> tf.keras.Sequential:
    """Return the encoder: (batch, height, width, bands) -> (batch, `width`).

    `plain` is the encoder of the regression: one Dense layer on the pooled features.
    """
    backbone = tf.keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=image_shape
    )
    parts = [backbone, layers.GlobalAveragePooling2D()]
    if plain:
        return tf.keras.Sequential([*parts, layers.Dense(width, activation="relu")])
    for size, rate in ((8 * width, 0.5), (4 * width, 0.5), (width, 0.3)):
        parts += [
            layers.Dense(size, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(rate if dropout else 0.0),
        ]
    return tf.keras.Sequential(parts)


def variables(encoder: tf.keras.Sequential) -> Variables:
    """Return the encoder's variables under the names of the given weights."""
    found: Variables = {}
    for layer in encoder.layers[0].layers:
        found |= of_layer(layer.name, layer)
    weighted = [layer for layer in encoder.layers[1:] if layer.weights]
    if len(weighted) == 1:
        return found | of_layer("top/dense", weighted[0])
    for i in range(3):
        found |= of_layer(f"top/dense_{i}", weighted[2 * i])
        found |= of_layer(f"top/norm_{i}", weighted[2 * i + 1])
    return found
