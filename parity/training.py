"""Loss and gradients of the self-supervised models, from given weights and a given batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

from parity.exchange import Arrays, named
from parity.losses import byol, info_nce
from parity.variables import Variables, below, gradients, of_layer, place

Given = Mapping[str, np.ndarray]

TEMPERATURE = 0.1


def projection_head(features: int, width: int) -> tf.keras.Sequential:
    """Return the contrastive projector: Dense(width, relu), Dense(width)."""
    return tf.keras.Sequential(
        [
            tf.keras.Input((features,)),
            layers.Dense(width, activation="relu", name="hidden"),
            layers.Dense(width, name="out"),
        ]
    )


def batch_norm_head(inputs: int) -> tf.keras.Sequential:
    """Return BYOL's projector or predictor: Dense(64), BatchNorm, relu, Dense(32).

    The first layer's bias, which the BatchNorm behind it takes away again, is left out of
    `variables`: it stays zero.
    """
    return tf.keras.Sequential(
        [
            tf.keras.Input((inputs,)),
            layers.Dense(64, name="dense_0"),
            layers.BatchNormalization(name="norm_0"),
            layers.ReLU(),
            layers.Dense(32, name="out"),
        ]
    )


def head_variables(head: tf.keras.Sequential) -> Variables:
    """Return a head's variables by name, without a bias ahead of a BatchNorm."""
    found: Variables = {}
    for layer in head.layers:
        found |= of_layer(layer.name, layer)
    found.pop("dense_0/bias", None)
    return found


def contrastive(encoder: tf.keras.Model, of_encoder: Variables, given: Given) -> Arrays:
    """Return features, loss, gradients, moving statistics and the probe's step."""
    views = [tf.cast(given[f"batch/{view}"], encoder.compute_dtype) for view in (1, 2)]
    projector = projection_head(encoder.output_shape[-1], 256)
    variables = below("encoder", of_encoder) | below("projector", head_variables(projector))
    place(variables, _weights(given, ("encoder", "projector")))
    features = encoder(views[0], training=False)
    with tf.GradientTape() as tape:
        pair = [projector(encoder(view, training=True), training=True) for view in views]
        losses = info_nce(pair[0], pair[1], TEMPERATURE)
        loss = tf.reduce_mean(losses)
    return {
        "features": features.numpy(),
        "losses": losses.numpy(),
        **named("gradient", gradients(tape, loss, variables)),
        **named("moved", _statistics(variables)),
        **named("probe", _probe_step(encoder, views[0], given)),
    }


def _probe_step(encoder: tf.keras.Model, images: tf.Tensor, given: Given) -> Arrays:
    """Train a linear probe for one step of Adam on the features of un-augmented images."""
    features = encoder(images, training=False)
    probe = layers.Dense(3)
    probe.build(features.shape)
    probe.set_weights([given["weights/probe/kernel"], given["weights/probe/bias"]])
    with tf.GradientTape() as tape:
        logits = probe(features)
        losses = tf.keras.losses.sparse_categorical_crossentropy(
            given["batch/label"], logits, from_logits=True
        )
        loss = tf.reduce_mean(losses)
    kernel, bias = tape.gradient(loss, [probe.kernel, probe.bias])
    adam = tf.keras.optimizers.Adam(1e-3)
    adam.apply_gradients([(kernel, probe.kernel), (bias, probe.bias)])
    return {
        "loss": loss.numpy(),
        "gradient/kernel": kernel.numpy(),
        "gradient/bias": bias.numpy(),
        "stepped/kernel": probe.kernel.numpy(),
        "stepped/bias": probe.bias.numpy(),
    }


def bootstrap(
    encoders: tuple[tf.keras.Model, tf.keras.Model],
    of_encoders: tuple[Variables, Variables],
    given: Given,
) -> Arrays:
    """Return BYOL's loss and the gradients of the online network."""
    online, target = encoders
    views = [tf.cast(given[f"batch/{view}"], online.compute_dtype) for view in (1, 2)]
    width = online.output_shape[-1]
    heads = {name: batch_norm_head(width) for name in ("projector", "target_projector")}
    heads["predictor"] = batch_norm_head(32)
    variables = below("encoder", of_encoders[0])
    for name in ("projector", "predictor"):
        variables |= below(name, head_variables(heads[name]))
    place(variables, _weights(given, ("encoder", "projector", "predictor")))
    slow = below("target_encoder", of_encoders[1])
    slow |= below("target_projector", head_variables(heads["target_projector"]))
    place(slow, _weights(given, ("target_encoder", "target_projector")))
    goals = [heads["target_projector"](target(v, training=True), training=True) for v in views]
    with tf.GradientTape() as tape:
        seen = [heads["projector"](online(v, training=True), training=True) for v in views]
        guesses = [heads["predictor"](part, training=True) for part in seen]
        crossed = tf.concat([goals[1], goals[0]], axis=0)
        loss = byol(tf.concat(guesses, axis=0), crossed)
    return {"loss": loss.numpy(), **named("gradient", gradients(tape, loss, variables))}


def _weights(given: Given, folders: Iterable[str]) -> Arrays:
    starts = tuple(f"weights/{folder}/" for folder in folders)
    return {
        name[len("weights/") :]: array for name, array in given.items() if name.startswith(starts)
    }


def _statistics(variables: Variables) -> Arrays:
    return {name: value.numpy() for name, value in variables.items() if "/moving_" in name}
