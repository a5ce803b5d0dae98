"""The variables of a Keras 2 network under the names of the given weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from parity.exchange import Arrays

Variables = dict[str, tf.Variable]


def of_layer(name: str, layer: tf.keras.layers.Layer) -> Variables:
    """Return a layer's variables under `name`: name/kernel, name/bias and so on."""
    return {
        f"{name}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for variable in layer.weights
    }


def assign(variables: Variables, given: Mapping[str, np.ndarray]) -> None:
    """Assign each variable its value; both sides must have the same names.

    Attention kernels are given per head, (width, heads, width of a head), and assigned to Dense
    layers, (width, width): the order of their values is the same.

    Raises:
        ValueError: a name is missing on one side.
    """
    if set(variables) != set(given):
        raise ValueError(f"names differ: {sorted(set(variables) ^ set(given))}")
    for name, variable in variables.items():
        variable.assign(given[name].reshape(variable.shape))


def root_mean_squares(variables: Variables) -> Arrays:
    """Return the root mean square of each variable; for initial weights, that of their draws."""
    return {name: np.sqrt(np.mean(value.numpy() ** 2)) for name, value in variables.items()}


def moving_statistics(variables: Variables) -> Arrays:
    """Return the moving statistics of the BatchNorms among the layers."""
    return {name: value.numpy() for name, value in variables.items() if "/moving_" in name}


def gradients(tape: tf.GradientTape, loss: tf.Tensor, variables: Variables) -> Arrays:
    """Return the loss's gradient of each trainable variable, by name."""
    trained = {name: variable for name, variable in variables.items() if variable.trainable}
    return {name: array.numpy() for name, array in tape.gradient(loss, trained).items()}
