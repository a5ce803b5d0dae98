"""A Keras 2 network's variables by the names that the given weights have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from parity.exchange import Arrays

Variables = dict[str, tf.Variable]


def of_layer(name: str, layer: tf.keras.layers.Layer) -> Variables:
    """Return a layer's variables under `name`: name/kernel, name/bias ..."""
    return {
        f"{name}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for variable in layer.weights
    }


def place(variables: Variables, given: Mapping[str, np.ndarray]) -> None:
    """Give each variable its value; both sides must have the same names.

    Attention's kernels come split by heads, (width, heads, width of a head), and go into
    Dense layers, (width, width): the order of their numbers is the same.

    Raises:
        ValueError: names on one side only.
    """
    if set(variables) != set(given):
        raise ValueError(f"names differ: {sorted(set(variables) ^ set(given))}")
    for name, variable in variables.items():
        variable.assign(given[name].reshape(variable.shape))


def spreads(variables: Variables) -> Arrays:
    """Return the root mean square of each variable: of fresh ones, how they are drawn."""
    return {name: np.sqrt(np.mean(value.numpy() ** 2)) for name, value in variables.items()}


def moving_statistics(variables: Variables) -> Arrays:
    """Return what the BatchNorms among the layers have seen so far."""
    return {name: value.numpy() for name, value in variables.items() if "/moving_" in name}


def gradients(tape: tf.GradientTape, loss: tf.Tensor, variables: Variables) -> Arrays:
    """Return the loss's gradient of each trainable variable, by name."""
    trained = {name: variable for name, variable in variables.items() if variable.trainable}
    return {name: array.numpy() for name, array in tape.gradient(loss, trained).items()}
