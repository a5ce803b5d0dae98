"""Structural similarity of two images, pixel by pixel."""

import math

from keras import KerasTensor, ops

SIGMA_PIXELS = 1.5
RADIUS_PIXELS = 5
STABILISERS = (0.01**2, 0.03**2)  # for images in [0, 1]


def ssim_map(images_1: KerasTensor, images_2: KerasTensor) -> KerasTensor:
    """Compare mean, contrast and structure of two images around each pixel.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, eq. 13, with its Gaussian window of 11 by 11
    pixels and standard deviation 1.5; the image is mirrored at the border.

    Args:
        images_1: shape (batch, height, width, bands), values in [0, 1], at least 5 pixels a side.
        images_2: the same shape.

    Returns:
        The same shape, float32, at most 1; 1 where both images agree.
    """
    first, second = (ops.cast(images, "float32") for images in (images_1, images_2))
    moments = ops.stack([first, second, first * first, second * second, first * second])
    mean_1, mean_2, square_1, square_2, product = ops.unstack(_blur(moments), axis=0)
    variances = square_1 - mean_1**2 + square_2 - mean_2**2
    covariance = product - mean_1 * mean_2
    c1, c2 = STABILISERS
    likeness = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return likeness / ((mean_1**2 + mean_2**2 + c1) * (variances + c2))


def _blur(images: KerasTensor) -> KerasTensor:
    """Smooth (sets, batch, height, width, bands) along height and width.

    Computed by sums: a convolution on a GPU rounds to TensorFloat-32, which would destroy the
    variances, small differences of squares.
    """
    weights = [
        math.exp(-0.5 * (k / SIGMA_PIXELS) ** 2) for k in range(-RADIUS_PIXELS, RADIUS_PIXELS + 1)
    ]
    for axis in (2, 3):
        size = images.shape[axis]
        margins = [(RADIUS_PIXELS, RADIUS_PIXELS) if i == axis else (0, 0) for i in range(5)]
        padded = ops.pad(images, margins, mode="symmetric")
        parts = [weight * _window(padded, axis, k, size) for k, weight in enumerate(weights)]
        images = sum(parts) / sum(weights)
    return images


def _window(padded: KerasTensor, axis: int, start: int, size: int) -> KerasTensor:
    chosen = slice(start, start + size)
    return padded[:, :, chosen] if axis == 2 else padded[:, :, :, chosen]
