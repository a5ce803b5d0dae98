"""Rotating and cropping batches of images: read each pixel at another place, reflect the border."""

from typing import Any

import tensorflow as tf

from deeplens_tf.augment.randomness import LANES

INTERPOLATIONS = ("bilinear", "bicubic")


def rotate(
    images: tf.Tensor, angles_rad: tf.Tensor, interpolation: str = "bilinear", margin: int = 0
) -> tf.Tensor:
    """Rotate each image about its centre, reflected at the border.

    Args:
        images: shape (batch, height, width, bands).
        angles_rad: counter-clockwise on a picture whose rows run downwards, shape (batch,).
        interpolation: "bilinear", or "bicubic" for the cubic convolution of Keys (1981) with
            a = -1/2, which may exceed the range of the images.
        margin: pixels that are cut off each side of the result.

    Returns:
        The rotated images, of the same shape apart from the margin.

    Raises:
        ValueError: an unknown interpolation.
    """
    require_interpolation(interpolation)
    # In whole vectors, as in `normal`, so that a view does not depend on its place in the batch.
    angles = tf.repeat(angles_rad[:, None], LANES, axis=1)
    cosine, sine = tf.cos(angles)[:, 0], tf.sin(angles)[:, 0]
    width, height = images.shape[2] - 1.0, images.shape[1] - 1.0
    # The output pixel (x, y) is read at the input's (a x + b y + c, d x + e y + f).
    x, y = width - 2 * margin, height - 2 * margin  # of the last output pixel
    c = (width - (cosine * x - sine * y)) / 2
    f = (height - (sine * x + cosine * y)) / 2
    chosen = project if interpolation == "bilinear" else _project_bicubic
    return chosen(images, cosine, -sine, c, sine, cosine, f, margin=margin)


def project(images: tf.Tensor, *rows: tf.Tensor, margin: int = 0) -> tf.Tensor:
    """Read each output pixel (x, y) at the input's (a x + b y + c, d x + e y + f), bilinearly.

    Args:
        images: shape (batch, height, width, bands).
        *rows: a, b, c, d, e and f, each of shape (batch,).
        margin: by which the result is smaller than the images on each side.
    """
    zero = tf.zeros_like(rows[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows, zero, zero], axis=1),
        output_shape=_output_shape(images, margin),
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )


def _output_shape(images: tf.Tensor, margin: int) -> tuple[int, int]:
    height, width = images.shape[1:3]
    return height - 2 * margin, width - 2 * margin


def _project_bicubic(images: tf.Tensor, *rows: tf.Tensor, margin: int = 0) -> tf.Tensor:
    """Read each output pixel from the 4 x 4 pixels around its place in the input."""
    height, width, bands = images.shape[1:]
    a, b, c, d, e, f = (row[:, None, None] for row in rows)  # (batch, 1, 1)
    y, x = (tf.range(side, dtype=tf.float32) for side in _output_shape(images, margin))
    y = y[:, None]
    columns, of_column = _cubic_taps(a * x + b * y + c, width)  # 4 of (batch, rows, columns)
    lines, of_line = _cubic_taps(d * x + e * y + f, height)
    pixels = tf.reshape(images, (-1, height * width, bands))
    return tf.add_n(
        [
            tf.gather(pixels, line * width + column, batch_dims=1)
            * tf.cast(u * v, images.dtype)[..., None]
            for line, u in zip(lines, of_line, strict=True)
            for column, v in zip(columns, of_column, strict=True)
        ]
    )


def _cubic_taps(places: tf.Tensor, length: int) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Return the indices of the four pixels around each place on an axis, and their weights.

    The weights are those of Keys, "Cubic convolution interpolation for digital image processing",
    IEEE Trans. ASSP 29 (1981) 1153, with a = -1/2. Beyond the ends the pixels are reflected.
    """
    first = tf.floor(places)
    t = places - first  # in [0, 1)
    weights = [
        ((-t + 2) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((-3 * t + 4) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ]
    indices = [(tf.cast(first, tf.int32) + step) % (2 * length) for step in (-1, 0, 1, 2)]
    return [tf.minimum(index, 2 * length - 1 - index) for index in indices], weights


def require_interpolation(interpolation: Any) -> None:
    """Refuse a way of interpolating that is not known.

    Raises:
        ValueError: with the known ones.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be {' or '.join(INTERPOLATIONS)}. "
            f"Received: interpolation={interpolation}"
        )
