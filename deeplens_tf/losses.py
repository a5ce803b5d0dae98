"""The self-supervised losses as pure functions of `keras.ops`, taken in float32.

float32 whatever the policy: normalising a zero vector in float16 gives NaN.
"""

import math

import keras
from keras import KerasTensor, ops

VARIANCE_EPSILON = 1e-5  # that of the BatchNorm by which Barlow Twins' authors standardise


def normalised(vectors: KerasTensor) -> KerasTensor:
    """Scale each vector to unit length, in float32.

    Args:
        vectors: shape (batch, dim).

    Returns:
        Shape (batch, dim), float32; a zero vector stays zero.
    """
    return ops.normalize(ops.cast(vectors, "float32"), axis=-1, order=2)


def cosine_similarities(
    projections_1: KerasTensor, projections_2: KerasTensor, temperature: float = 0.1
) -> KerasTensor:
    """Return the cosine of each pair of projections over the temperature.

    Args:
        projections_1: first view, shape (batch, dim).
        projections_2: second view, shape (batch, dim).
        temperature: positive divisor of the cosines.

    Returns:
        Shape (batch, batch), float32: row i holds view 1 of example i against every view 2.
    """
    cosines = ops.matmul(normalised(projections_1), ops.transpose(normalised(projections_2)))
    return cosines / temperature


def contrastive_loss(
    projections_1: KerasTensor, projections_2: KerasTensor, temperature: float = 0.1
) -> KerasTensor:
    """Symmetric InfoNCE: each view must find its partner among the batch's other views.

    The mean of two cross-entropies, of view 1 among views 2 and of view 2 among views 1
    (van den Oord et al. 2018, arXiv:1807.03748, eq. 4; both directions as in CLIP,
    arXiv:2103.00020, fig. 3). The inputs are normalised here.

    Args:
        projections_1: first view, shape (batch, dim).
        projections_2: second view, shape (batch, dim); row i is the partner of row i.
        temperature: positive divisor of the cosine similarities.

    Returns:
        Loss per example, shape (batch,), float32.
    """
    similarities = cosine_similarities(projections_1, projections_2, temperature)
    directions = (similarities, ops.transpose(similarities))
    partners = ops.arange(ops.shape(similarities)[0])
    return sum(partner_cross_entropy(partners, logits) for logits in directions) / 2


def partner_cross_entropy(partners: KerasTensor, similarities: KerasTensor) -> KerasTensor:
    """Cross-entropy of picking each row's partner among the columns.

    Args:
        partners: the partner's column, shape (batch,).
        similarities: logits, shape (batch, candidates).

    Returns:
        Shape (batch,).
    """
    return keras.losses.sparse_categorical_crossentropy(partners, similarities, from_logits=True)


def byol_loss(p: KerasTensor, z: KerasTensor) -> KerasTensor:
    """Squared distance of normalised predictions and targets: 2 - 2 x their mean cosine.

    One direction of BYOL's loss (Grill et al. 2020, arXiv:2006.07733, eq. 2). The paper adds
    the loss of the exchanged views; `BYOLModel` averages both.

    Args:
        p: the online network's predictions, shape (batch, dim).
        z: the target network's projections, shape (batch, dim).

    Returns:
        Scalar, float32, from 0 to 4.
    """
    return 2 - 2 * mean_cosine(p, z)


def simsiam_loss(p: KerasTensor, z: KerasTensor) -> KerasTensor:
    """Negative cosine of predictions and projections; no gradient flows into the projections.

    One direction of SimSiam's loss (Chen and He 2020, arXiv:2011.10566, eq. 1 and 3);
    `SimSiamModel` averages both.

    Args:
        p: predictions of one view, shape (batch, dim).
        z: projections of the other view, shape (batch, dim).

    Returns:
        Scalar, float32, from -1 to 1.
    """
    return -mean_cosine(p, ops.stop_gradient(z))


def mean_cosine(vectors_1: KerasTensor, vectors_2: KerasTensor) -> KerasTensor:
    """Return the mean over the batch of the cosine of row i with row i: a scalar, float32."""
    return ops.mean(ops.sum(normalised(vectors_1) * normalised(vectors_2), axis=-1))


def barlow_twins_loss(
    projections_1: KerasTensor, projections_2: KerasTensor, off_diagonal_weight: float = 5e-3
) -> KerasTensor:
    """Squared distance of the views' cross-correlation matrix from the identity.

    Each dimension is to agree between the views and to say something of its own (Zbontar et
    al. 2021, arXiv:2103.03230, eq. 1 and 2).

    Args:
        projections_1: first view, shape (batch, dim).
        projections_2: second view, shape (batch, dim); row i is the partner of row i.
        off_diagonal_weight: lambda, the weight of the redundancy between dimensions.

    Returns:
        Scalar, float32.
    """
    correlations = cross_correlation(projections_1, projections_2)
    identity = ops.eye(projections_1.shape[-1], dtype="float32")
    squares = ops.square(correlations - identity)
    return ops.sum(squares * (identity + off_diagonal_weight * (1 - identity)))


def cross_correlation(projections_1: KerasTensor, projections_2: KerasTensor) -> KerasTensor:
    """Correlate each dimension of one view with each of the other, over the batch.

    Args:
        projections_1: first view, shape (batch, dim).
        projections_2: second view, shape (batch, dim).

    Returns:
        Shape (dim, dim), float32, from -1 to 1; 0 for a dimension that is constant.
    """
    first, second = _standardised(projections_1), _standardised(projections_2)
    return ops.matmul(ops.transpose(first), second) / ops.cast(ops.shape(first)[0], "float32")


def _standardised(vectors: KerasTensor) -> KerasTensor:
    """Bring each dimension to mean 0 and variance 1 over the batch."""
    vectors = ops.cast(vectors, "float32")
    mean, variance = ops.moments(vectors, axes=0, keepdims=True)
    return (vectors - mean) / ops.sqrt(variance + VARIANCE_EPSILON)


@keras.saving.register_keras_serializable(package="deeplens_tf")
def squared_error_dex(log10_mass: KerasTensor, predicted: KerasTensor) -> KerasTensor:
    """Squared error per image, shape (batch,), in dex squared."""
    return ops.square(log10_mass - predicted[:, :1])[:, 0]


@keras.saving.register_keras_serializable(package="deeplens_tf")
def gaussian_negative_log_likelihood(
    log10_mass: KerasTensor, predicted: KerasTensor
) -> KerasTensor:
    """Return -log N(log10_mass | mean, std) per image, shape (batch,), the constant included.

    The columns of `predicted` are mean and standard deviation (Nix and Weigend 1994,
    doi:10.1109/ICNN.1994.374138, eq. 3).
    """
    mean, std = predicted[:, 0], predicted[:, 1]
    residual = (log10_mass[:, 0] - mean) / std
    return 0.5 * ops.square(residual) + ops.log(std) + 0.5 * math.log(2 * math.pi)


@keras.saving.register_keras_serializable(package="deeplens_tf")
def mae_dex(log10_mass: KerasTensor, predicted: KerasTensor) -> KerasTensor:
    """Absolute error per image, shape (batch,), in dex."""
    return ops.abs(log10_mass - predicted[:, :1])[:, 0]
