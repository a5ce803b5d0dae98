"""Features, loss and gradients of complete models, from given weights and a given batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

from parity.exchange import Arrays, below, named
from parity.losses import byol, info_nce, partners_found
from parity.variables import (
    Variables,
    assign,
    gradients,
    moving_statistics,
    of_layer,
    root_mean_squares,
)

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

    `head_variables` leaves out the first layer's bias, which the BatchNorm cancels: it stays zero.
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
    """Return a head's variables by name, without a bias followed by a BatchNorm."""
    found: Variables = {}
    for layer in head.layers:
        found |= of_layer(layer.name, layer)
    found.pop("dense_0/bias", None)
    return found


def contrastive(encoder: tf.keras.Model, of_encoder: Variables, given: Given) -> Arrays:
    """Return features, losses, gradients, moving statistics and the probe's step."""
    views = _views(given, encoder)
    projector = projection_head(encoder.output_shape[-1], 256)
    variables = named("encoder", of_encoder) | named("projector", head_variables(projector))
    initial = root_mean_squares(variables)
    assign(variables, _weights(given, ("encoder", "projector")))
    features = encoder(views[0], training=False)
    with tf.GradientTape() as tape:
        pair = [projector(encoder(view, training=True), training=True) for view in views]
        losses = info_nce(pair[0], pair[1], TEMPERATURE)
        loss = tf.reduce_mean(losses)
    return {
        "features": features.numpy(),
        "loss/each": losses.numpy(),
        "loss/mean": loss.numpy(),
        "accuracy": partners_found(*pair),
        **named("initial", initial),
        **named("gradient", gradients(tape, loss, variables)),
        **named("moved", moving_statistics(variables)),
        **named("probe", _probe_step(encoder, views[0], given)),
    }


def _probe_step(encoder: tf.keras.Model, images: tf.Tensor, given: Given) -> Arrays:
    """Take one Adam step of a linear probe on the features of images without augmentation."""
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
    """Return BYOL's features, loss, gradients of the online network and moving statistics."""
    online, target = encoders
    views = _views(given, online)
    width = online.output_shape[-1]
    heads = {name: batch_norm_head(width) for name in ("projector", "target_projector")}
    heads["predictor"] = batch_norm_head(32)
    variables = named("encoder", of_encoders[0])
    for name in ("projector", "predictor"):
        variables |= named(name, head_variables(heads[name]))
    slow = named("target_encoder", of_encoders[1])
    slow |= named("target_projector", head_variables(heads["target_projector"]))
    initial = root_mean_squares(variables)
    assign(variables, _weights(given, ("encoder", "projector", "predictor")))
    assign(slow, _weights(given, ("target_encoder", "target_projector")))
    features = online(views[0], training=False)
    targets = [heads["target_projector"](target(v, training=True), training=True) for v in views]
    with tf.GradientTape() as tape:
        projected = [heads["projector"](online(v, training=True), training=True) for v in views]
        predictions = [heads["predictor"](part, training=True) for part in projected]
        crossed = tf.concat([targets[1], targets[0]], axis=0)
        loss = byol(tf.concat(predictions, axis=0), crossed)
    pairs = zip(tf.concat(predictions, axis=0), crossed)  # noqa: B905, Python 3.9 lacks `strict`
    return {
        "features": features.numpy(),
        "loss/each": [byol(one[None], other[None]).numpy() for one, other in pairs],
        "loss/mean": loss.numpy(),
        **named("initial", initial),
        **named("gradient", gradients(tape, loss, variables)),
        **named("moved", moving_statistics(variables | slow)),
    }


def regression(encoder: tf.keras.Model, of_encoder: Variables, given: Given) -> Arrays:
    """Return features, loss, gradients and moving statistics of the regression of log10 mass."""
    images, _ = _views(given, encoder)
    head = layers.Dense(1)
    head.build((None, encoder.output_shape[-1]))
    variables = named("encoder", of_encoder) | of_layer("head/dense", head)
    initial = root_mean_squares(variables)
    assign(variables, _weights(given, ("encoder", "head")))
    features = encoder(images, training=False)
    with tf.GradientTape() as tape:
        losses = tf.keras.losses.mean_squared_error(
            given["batch/mass"][:, None], head(encoder(images, training=True))
        )
        loss = tf.reduce_mean(losses)
    return {
        "features": features.numpy(),
        "loss/each": losses.numpy(),
        "loss/mean": loss.numpy(),
        **named("initial", initial),
        **named("gradient", gradients(tape, loss, variables)),
        **named("moved", moving_statistics(variables)),
    }


def oblong_features(encoder: tf.keras.Model, of_encoder: Variables, given: Given) -> np.ndarray:
    """Return an encoder's features of a batch of another size with images of another size."""
    other = below(given, "oblong/weights")  # weights that depend on the image size: positions
    assign(of_encoder, below(given, "weights/encoder") | other)
    images = tf.cast(given["oblong/images"], encoder.compute_dtype)
    return encoder(images, training=False).numpy()


def _views(given: Given, encoder: tf.keras.Model) -> list[tf.Tensor]:
    return [tf.cast(given[f"batch/{view}"], encoder.compute_dtype) for view in (1, 2)]


def _weights(given: Given, parts: Iterable[str]) -> Arrays:
    weights: Arrays = {}
    for part in parts:
        weights |= named(part, below(given, f"weights/{part}"))
    return weights
