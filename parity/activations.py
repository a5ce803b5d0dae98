"""GELU from TensorFlow Addons, as the original uses it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

from parity.exchange import Arrays

SHAPES = ((1000,), (7, 33), (4, 5, 96), (2, 3, 4, 5))


def gelu_cases(generator: np.random.Generator) -> Arrays:
    """Return inputs of several shapes, their exact GELU and its gradient."""
    arrays: Arrays = {}
    for i, shape in enumerate(SHAPES):
        # A standard deviation of 3 covers the range in which GELU is neither 0 nor the identity.
        inputs = tf.constant(generator.normal(0, 3, shape), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tfa.activations.gelu(inputs, approximate=False)
        gradient = tape.gradient(outputs, inputs)
        arrays |= {f"{i}/inputs": inputs, f"{i}/outputs": outputs, f"{i}/gradient": gradient}
    return arrays
