"""Measures of collapse: how close an encoder is to giving every image the same features."""

import math
from collections.abc import Sequence

from keras import KerasTensor, ops

from deeplens_tf.losses import normalised

# `feature_std` squared is 1 minus the mean cosine of the features of two images, so below this
# value all images agree to a thousandth. An untrained Vision Transformer gives 0.09 to 0.15 on
# images of lenses, which resemble each other, and healthy runs without negatives stay above 0.05.
COLLAPSED_BELOW = 0.03


def feature_std(features: Sequence[KerasTensor]) -> KerasTensor:
    """Spread of the normalised features over the batch, on a scale from 0 to about 1.

    The standard deviation of each dimension of the L2-normalised features over the batch,
    averaged over the dimensions and multiplied by the square root of their number (Chen and He
    2020, arXiv:2011.10566, section 4.1, where it is compared with the inverse of that root). 0:
    all images have the same direction; 1: the directions are spread evenly.

    Args:
        features: one or more sets of features, each of shape (batch, dim).

    Returns:
        Scalar, float32: the mean over the sets.
    """
    spreads = [ops.mean(ops.std(normalised(part), axis=0)) for part in features]
    return math.sqrt(features[0].shape[-1]) * ops.mean(ops.stack(spreads))
