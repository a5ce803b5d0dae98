"""The heads that fine-tuning adds to the features: class probabilities, or a mass."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from parity.exchange import Arrays

CASES = ((4, 8, 1.0), (64, 256, 1.0), (16, 128, 30.0))  # batch, features, their standard deviation
CLASSES = 3


def head_cases(generator: np.random.Generator) -> Arrays:
    """Return features, labels and masses with both heads' outputs, losses and gradients.

    The standard deviation of 30 gives probabilities that are 0 and 1 in float32.
    """
    arrays: Arrays = {}
    for i, (batch, width, spread) in enumerate(CASES):
        features = tf.constant(generator.normal(0, spread, (batch, width)), tf.float32)
        labels = tf.one_hot(generator.integers(0, CLASSES, batch), CLASSES)
        masses = tf.constant(generator.uniform(-24, -22, (batch, 1)), tf.float32)
        arrays |= {f"{i}/features": features, f"{i}/labels": labels, f"{i}/masses": masses}
        probabilities = tf.keras.layers.Dense(CLASSES, activation="softmax")
        loss = tf.keras.losses.CategoricalCrossentropy()
        for name, value in _step(probabilities, loss, features, labels).items():
            arrays[f"{i}/class/{name}"] = value
        mass, loss = tf.keras.layers.Dense(1), tf.keras.losses.MeanSquaredError()
        for name, value in _step(mass, loss, features, masses).items():
            arrays[f"{i}/mass/{name}"] = value
    return arrays


def _step(
    layer: tf.keras.layers.Layer,
    loss: tf.keras.losses.Loss,
    features: tf.Tensor,
    targets: tf.Tensor,
) -> Arrays:
    with tf.GradientTape() as tape:
        outputs = layer(features)
        value = loss(targets, outputs)
    kernel, bias = tape.gradient(value, layer.trainable_variables)
    return {
        "kernel": layer.kernel.numpy(),
        "bias": layer.bias.numpy(),
        "outputs": outputs,
        "loss": value,
        "kernel_gradient": kernel,
        "bias_gradient": bias,
    }
