"""Pretexts: how a view is made of an image. Stateless, batched, pure.

Each example's random numbers follow from (seed, epoch, index, view) alone, so views are new
in each epoch, the same in each run, and do not depend on the batch an example falls into.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deeplens_tf.config import AugmentConfig

Draws = Mapping[str, tf.Tensor]
MASK = 0  # in place of a view's number, which starts at 1


def two_views(
    images: tf.Tensor, indices: tf.Tensor, seed: int, epoch: int, config: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Make two independent views of each image.

    Args:
        images: shape (batch, height, width, bands), float32 in [0, 1].
        indices: each image's position in its data set, shape (batch,), int64.
        seed: of the run.
        epoch: of the run; another epoch gives other views.
        config: the pretexts and their settings.

    Returns:
        Both views, each of the images' shape.
    """
    return tuple(one_view(images, indices, seed, epoch, view, config) for view in (1, 2))


def one_view(
    images: tf.Tensor,
    indices: tf.Tensor,
    seed: int,
    epoch: int,
    view: int,
    config: AugmentConfig,
) -> tf.Tensor:
    """Make view number `view` of each image; arguments as for `two_views`."""
    return transform(images, draw_batch(indices, seed, epoch, view, images.shape[1:], config))


def draw_batch(
    indices: tf.Tensor,
    seed: int | tf.Tensor,
    epoch: int | tf.Tensor,
    view: int,
    image_shape: tuple[int, int, int],
    config: AugmentConfig,
) -> Draws:
    """Draw the random numbers of each example: `draw` for every index of a batch."""
    if not config.views:
        return {}
    dtypes = {"flip": "bool", "rot90": "int32"}
    signature = {
        name: tf.TensorSpec(None, dtypes.get(name, "float32"))
        for name in dict.fromkeys(config.views)
    }
    return tf.map_fn(
        lambda index: draw(index, seed, epoch, view, image_shape, config),
        tf.cast(indices, tf.int64),
        fn_output_signature=signature,
    )


def draw(
    index: tf.Tensor,
    seed: int | tf.Tensor,
    epoch: int | tf.Tensor,
    view: int,
    image_shape: tuple[int, int, int],
    config: AugmentConfig,
) -> Draws:
    """Draw one example's random numbers for each pretext of the configuration."""
    key = _key(index, seed, epoch, view)
    draws = {}
    for i, name in enumerate(config.views):
        pretext_key = tf.random.experimental.stateless_fold_in(key, tf.constant(i, tf.int64))
        draws[name] = DRAWERS[name](pretext_key, image_shape, getattr(config, name, None))
    return draws


def patch_orders(
    indices: tf.Tensor, seed: int | tf.Tensor, epoch: int | tf.Tensor, patches: int
) -> tf.Tensor:
    """Draw a random order of each image's patches; a mask drops the last of them.

    Args:
        indices: each image's position in its data set, shape (batch,), int64.
        seed: of the run.
        epoch: of the run; another epoch gives another order.
        patches: patches an image.

    Returns:
        A permutation of the patches per image, shape (batch, patches), int32.
    """

    def order(index: tf.Tensor) -> tf.Tensor:
        return tf.argsort(tf.random.stateless_uniform((patches,), _key(index, seed, epoch, MASK)))

    signature = tf.TensorSpec((patches,), tf.int32)
    return tf.map_fn(order, tf.cast(indices, tf.int64), fn_output_signature=signature)


def transform(images: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Apply the drawn pretexts in order to a batch of shape (batch, height, width, bands)."""
    for name, values in draws.items():
        images = TRANSFORMS[name](images, values)
    return images


def _key(index: tf.Tensor, seed: int | tf.Tensor, epoch: int | tf.Tensor, view: int) -> tf.Tensor:
    """Return the key from which all random numbers of one view of one image follow."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(view, tf.int64)])
    for word in (epoch, index):
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(word, tf.int64))
    return key


def _draw_flip(key: tf.Tensor, image_shape: Any, settings: Any) -> tf.Tensor:
    allowed = tf.constant([settings.horizontal, settings.vertical])
    return (tf.random.stateless_uniform((2,), key) < 0.5) & allowed  # (horizontal, vertical)


def _flip(images: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
    for axis, chosen in ((2, flips[:, 0]), (1, flips[:, 1])):
        images = tf.where(chosen[:, None, None, None], tf.reverse(images, [axis]), images)
    return images


def _draw_rot90(key: tf.Tensor, image_shape: Any, settings: Any) -> tf.Tensor:
    return tf.random.stateless_uniform((), key, 0, 4, tf.int32)  # quarter turns


def _rot90(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    chosen = turns[:, None, None, None]
    half = tf.reverse(images, [1, 2])
    images = tf.where(chosen >= 2, half, images)
    quarter = tf.reverse(tf.transpose(images, (0, 2, 1, 3)), [1])
    return tf.where(chosen % 2 == 1, quarter, images)


def _draw_rotation(key: tf.Tensor, image_shape: Any, settings: Any) -> tf.Tensor:
    limit = np.deg2rad(settings.degrees)
    return tf.random.stateless_uniform((), key, -limit, limit)  # radians


def rotate(images: tf.Tensor, angles_rad: tf.Tensor) -> tf.Tensor:
    """Rotate each image about its centre: bilinear, reflected at the border.

    Args:
        images: shape (batch, height, width, bands).
        angles_rad: counter-clockwise on a picture whose rows run downwards, shape (batch,).

    Returns:
        The rotated images, of the same shape.
    """
    cosine, sine = tf.cos(angles_rad), tf.sin(angles_rad)
    width, height = images.shape[2] - 1.0, images.shape[1] - 1.0
    # An output pixel (x, y) is read at the input's (a x + b y + c, d x + e y + f).
    c = (width - (cosine * width - sine * height)) / 2
    f = (height - (sine * width + cosine * height)) / 2
    return _project(images, cosine, -sine, c, sine, cosine, f)


def _draw_crop(key: tf.Tensor, image_shape: Any, settings: Any) -> tf.Tensor:
    numbers = tf.random.stateless_uniform((3,), key)
    side = tf.sqrt(settings.minimum_area + (1 - settings.minimum_area) * numbers[0])
    return tf.stack([side, numbers[1], numbers[2]])  # share of the side, place in x, in y


def _crop(images: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    side, nothing = boxes[:, 0], tf.zeros_like(boxes[:, 0])
    left = (1 - side) * boxes[:, 1] * (images.shape[2] - 1.0)
    top = (1 - side) * boxes[:, 2] * (images.shape[1] - 1.0)
    return _project(images, side, nothing, left, nothing, side, top)


def _project(images: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
    nothing = tf.zeros_like(rows[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows, nothing, nothing], axis=1),
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )


def _draw_brightness(key: tf.Tensor, image_shape: Any, settings: Any) -> tf.Tensor:
    limit = settings.maximum_change
    return tf.random.stateless_uniform((), key, -limit, limit)


def _add(images: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    offsets = tf.reshape(offsets, tf.concat([tf.shape(offsets), [1] * (4 - offsets.ndim)], 0))
    return tf.clip_by_value(images + offsets, 0.0, 1.0)


def _draw_gaussian_noise(key: tf.Tensor, image_shape: Any, settings: Any) -> tf.Tensor:
    return tf.random.stateless_normal(image_shape, key, stddev=settings.stddev)


DRAWERS: Mapping[str, Callable[[tf.Tensor, Any, Any], tf.Tensor]] = {
    "flip": _draw_flip,
    "rot90": _draw_rot90,
    "rotation": _draw_rotation,
    "crop": _draw_crop,
    "brightness": _draw_brightness,
    "gaussian_noise": _draw_gaussian_noise,
}
TRANSFORMS: Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "flip": _flip,
    "rot90": _rot90,
    "rotation": rotate,
    "crop": _crop,
    "brightness": _add,
    "gaussian_noise": _add,
}
