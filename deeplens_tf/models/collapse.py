"""How far an encoder is from giving every image the same features."""

import math
from collections.abc import Sequence

from keras import KerasTensor, ops

from deeplens_tf.losses import normalised


def feature_std(features: Sequence[KerasTensor]) -> KerasTensor:
    """Spread of the normalised features over the batch, on a scale from 0 to about 1.

    The standard deviation over the batch of each dimension of the L2-normalised features, its
    mean over the dimensions, times the root of their number (Chen and He 2020,
    arXiv:2011.10566, section 4.1, where it is compared with the inverse of that root): 0 where
    all images share one direction, 1 where they point evenly everywhere.

    Args:
        features: one or more sets of features, each of shape (batch, dim).

    Returns:
        Scalar, float32: the mean over the sets.
    """
    spreads = [ops.mean(ops.std(normalised(part), axis=0)) for part in features]
    return math.sqrt(features[0].shape[-1]) * ops.mean(ops.stack(spreads))
