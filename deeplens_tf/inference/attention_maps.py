"""Attention roll-out as maps of images."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from deeplens_tf.inference.image_maps import ImageMaps, joined, prepared_images
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.models.rollout import patch_shares, transformer_of

IMAGES_AT_ONCE = 32  # the attention of all pairs of tokens takes much memory


def attention_rollout(network: keras.Model, images: ArrayLike) -> ImageMaps:
    """Return how much of each patch reaches the features, by attention roll-out.

    Abnar and Zuidema 2020, arXiv:2005.00928, eq. 1, see `deeplens_tf.models.rollout`. The
    attention is that of the forward pass.

    Args:
        network: a Vision Transformer of this package, or a fine-tuned model with one.
        images: shape (n, height, width, bands), values in [0, 1], as the network takes them;
            `encoder.preprocessing.apply(raw_images)` makes them of raw ones.

    Returns:
        `grid`, a share for each patch, and `pixels`, the share of a patch spread evenly over its
        pixels. The shares of an image sum to 1.

    Raises:
        ValueError: another network, or images that it does not take.
    """
    encoder = network.encoder if isinstance(network, DownstreamModel) else network
    side = transformer_of(encoder).options["patch_size"]
    array = prepared_images(network, images)
    parts = (array[i : i + IMAGES_AT_ONCE] for i in range(0, len(array), IMAGES_AT_ONCE))
    grids = [keras.ops.convert_to_numpy(patch_shares(encoder, part)) for part in parts]
    return joined([ImageMaps(grid, np.kron(grid, _cell(side))) for grid in grids])


def _cell(side: int) -> np.ndarray:
    """Return the shares of a patch's pixels, (1, side, side)."""
    return np.full((1, side, side), side**-2, np.float32)
