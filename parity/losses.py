"""The two self-supervised losses of the article, in functions of Keras 2."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from parity.exchange import Arrays

CASES = ((2, 8, 0.1), (8, 32, 0.1), (33, 7, 0.5), (256, 256, 0.1))  # batch, dim, temperature
VIEWS = ((8, 4, 0.5), (33, 7, 1.0), (256, 32, 3.0))  # batch, dim, distance of the views


def similarities(
    projections_1: tf.Tensor, projections_2: tf.Tensor, temperature: float = 0.1
) -> tf.Tensor:
    """Return the cosine of each pair over the temperature, shape (batch, batch)."""
    units = [tf.math.l2_normalize(part, axis=1) for part in (projections_1, projections_2)]
    return tf.matmul(units[0], units[1], transpose_b=True) / temperature


def info_nce(
    projections_1: tf.Tensor, projections_2: tf.Tensor, temperature: float = 0.1
) -> tf.Tensor:
    """Return the symmetric InfoNCE of each example, shape (batch,)."""
    logits = similarities(projections_1, projections_2, temperature)
    partner = tf.range(tf.shape(logits)[0])
    entropy = tf.keras.losses.sparse_categorical_crossentropy
    forth = entropy(partner, logits, from_logits=True)
    back = entropy(partner, tf.transpose(logits), from_logits=True)
    return 0.5 * (forth + back)


def partners_found(projections_1: tf.Tensor, projections_2: tf.Tensor) -> float:
    """Return the contrastive accuracy: the fraction of partners found, in both directions."""
    logits = similarities(projections_1, projections_2)
    metric = tf.keras.metrics.SparseCategoricalAccuracy()
    for direction in (logits, tf.transpose(logits)):
        metric.update_state(tf.range(tf.shape(logits)[0]), direction)
    return float(metric.result())


def byol(predictions: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return 2 - 2 x the mean cosine, a scalar."""
    units = [tf.math.l2_normalize(part, axis=1) for part in (predictions, targets)]
    cosines = tf.reduce_sum(units[0] * units[1], axis=1)
    return 2.0 - 2.0 * tf.reduce_mean(cosines)


def loss_cases(generator: np.random.Generator) -> Arrays:
    """Return random projections with both losses and their gradients."""
    arrays: Arrays = {}
    for i, (batch, dim, temperature) in enumerate(CASES):
        pair = [tf.constant(generator.normal(size=(batch, dim)), tf.float32) for _ in range(2)]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(pair)
            contrastive, bootstrap = info_nce(pair[0], pair[1], temperature), byol(*pair)
            mean = tf.reduce_mean(contrastive)
        arrays |= {
            f"{i}/first": pair[0],
            f"{i}/second": pair[1],
            f"{i}/temperature": np.asarray(temperature),
            f"{i}/info_nce": contrastive,
            f"{i}/info_nce_gradient": tf.stack(tape.gradient(mean, pair)),
            f"{i}/byol": bootstrap,
            f"{i}/byol_gradient": tf.stack(tape.gradient(bootstrap, pair)),
        }
    return arrays


def accuracy_cases(generator: np.random.Generator) -> Arrays:
    """Return pairs of projections, similar to unrelated, and the fraction of partners found."""
    arrays: Arrays = {}
    for i, (batch, dim, apart) in enumerate(VIEWS):
        first = generator.normal(size=(batch, dim)).astype(np.float32)
        second = first + apart * generator.normal(size=(batch, dim)).astype(np.float32)
        accuracy = np.asarray(partners_found(tf.constant(first), tf.constant(second)))
        arrays |= {f"{i}/first": first, f"{i}/second": second, f"{i}/accuracy": accuracy}
    return arrays
