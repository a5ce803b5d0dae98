"""Rotation by given angles, by TensorFlow Addons and by RandomRotation of Keras 2."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

from parity.exchange import Arrays

SHAPES = ((64, 64, 1), (64, 64, 3), (33, 33, 2), (40, 24, 1))
ANGLES_DEG = (-180.0, -135.0, -90.0, -31.4, 0.0, 0.5, 45.0, 90.0, 123.4, 180.0)


def rotation_cases(generator: np.random.Generator) -> Arrays:
    """Return images of several shapes, rotated by both, and the gradient through Addons."""
    angles = np.deg2rad(ANGLES_DEG)
    arrays: Arrays = {"angles": angles.astype(np.float32)}
    for i, shape in enumerate(SHAPES):
        images = tf.constant(generator.random((len(angles), *shape)), tf.float32)
        weights = tf.constant(generator.normal(size=images.shape), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(images)
            turned = by_addons(images, arrays["angles"])
        arrays |= {
            f"{i}/images": images,
            f"{i}/weights": weights,
            f"{i}/addons": turned,
            f"{i}/keras": by_keras(images, angles),
            f"{i}/gradient": tape.gradient(turned, images, output_gradients=weights),
        }
    return arrays


def by_addons(images: tf.Tensor, angles_rad: np.ndarray) -> tf.Tensor:
    """Rotate with TensorFlow Addons: bilinear, reflected at the border."""
    return tfa.image.rotate(images, angles_rad, interpolation="bilinear", fill_mode="reflect")


def by_keras(images: tf.Tensor, angles_rad: np.ndarray) -> tf.Tensor:
    """Rotate each image with a RandomRotation whose range is a single angle."""
    turned = []
    for i, angle in enumerate(angles_rad):
        turns = float(angle / (2 * np.pi))  # the layer's unit is full turns
        layer = tf.keras.layers.RandomRotation((turns, turns), "reflect", "bilinear")
        turned.append(layer(images[i : i + 1], training=True))
    return tf.concat(turned, axis=0)
