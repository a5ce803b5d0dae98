"""Adam's step from given gradients, and the target update that follows it in BYOL."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from parity.exchange import Arrays, below, named

BETA = 0.99
RATE = 1e-4
STEPS = 3


def byol_steps(given: Mapping[str, np.ndarray]) -> Arrays:
    """Take three steps of the original's Adam, each followed by the update of the target."""
    online = {name: tf.Variable(value) for name, value in below(given, "online").items()}
    target = {name: tf.Variable(value) for name, value in below(given, "target").items()}
    adam = tf.keras.optimizers.legacy.Adam(learning_rate=RATE)
    arrays: Arrays = {}
    for step in range(STEPS):
        gradients = below(given, f"gradient/{step}")
        adam.apply_gradients((gradients[name], online[name]) for name in online)
        for name, slow in target.items():
            slow.assign(BETA * slow + (1 - BETA) * online[name])
        arrays |= named(f"{step}/online", _values(online)) | named(
            f"{step}/target", _values(target)
        )
    return arrays


def adam_steps(given: Mapping[str, np.ndarray]) -> Arrays:
    """Take three steps of Keras 2's current Adam, which the contrastive runs use."""
    online = {name: tf.Variable(value) for name, value in below(given, "online").items()}
    adam = tf.keras.optimizers.Adam(learning_rate=RATE)
    for step in range(STEPS):
        gradients = below(given, f"gradient/{step}")
        adam.apply_gradients([(gradients[name], online[name]) for name in online])
    return _values(online)


def _values(variables: Mapping[str, tf.Variable]) -> Arrays:
    return {name: variable.numpy() for name, variable in variables.items()}
