"""The noise of an image's background, estimated from the image itself."""

import tensorflow as tf

MAD_OF_NORMAL = 0.6744897501960817  # median of |z| for a standard normal z
MAX_DIFFERENCES = 1024  # that an estimate takes, for speed: its error is then about 4 %


def background_deviation(images: tf.Tensor) -> tf.Tensor:
    """Estimate the standard deviation of the background noise of each image, in each band.

    It is the median absolute deviation from zero of d(i, j) = x(i + 1, j + 1) - x(i + 1, j) -
    x(i, j + 1) + x(i, j), in which smooth light cancels, over 2 * 0.6745: for independent normal
    noise d has twice its standard deviation. Of many differences every k-th is taken.

    Args:
        images: shape (batch, height, width, bands), at least 2 pixels a side.

    Returns:
        Shape (batch, bands).
    """
    height, width, bands = images.shape[1:]
    along = images[:, 1:] - images[:, :-1]
    mixed = along[:, :, 1:] - along[:, :, :-1]
    count = (height - 1) * (width - 1)
    values = tf.abs(tf.reshape(mixed, (-1, count, bands)))[:, :: -(-count // MAX_DIFFERENCES)]
    ordered = tf.sort(tf.transpose(values, (0, 2, 1)))  # (batch, bands, differences)
    half = ordered.shape[-1] // 2
    middle = ordered[..., half] + ordered[..., ordered.shape[-1] - 1 - half]
    return middle / (4 * MAD_OF_NORMAL)
