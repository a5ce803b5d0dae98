"""Losses as pure functions of `keras.ops`: self-supervised ones, and those of a predicted mass.

All are computed in float32 under any precision policy: normalising a zero vector in float16 gives
NaN.
"""

import itertools
import math
from numbers import Real

import keras
from keras import KerasTensor, ops

NORM_EPSILON = 1e-7  # Keras's default, which a user's keras.json may change
VARIANCE_EPSILON = 1e-5  # of the BatchNorm with which the authors of Barlow Twins standardise


def normalised(vectors: KerasTensor) -> KerasTensor:
    """Scale each vector to unit length.

    Args:
        vectors: shape (batch, dim).

    Returns:
        Shape (batch, dim), float32; a zero vector stays zero.
    """
    return ops.normalize(ops.cast(vectors, "float32"), axis=-1, order=2, epsilon=NORM_EPSILON)


def cosine_similarities(
    projections: KerasTensor, candidates: KerasTensor, temperature: float = 0.1
) -> KerasTensor:
    """Compute the cosine of each projection and each candidate, divided by the temperature.

    Args:
        projections: shape (batch, dim).
        candidates: shape (candidates, dim).
        temperature: positive divisor of the cosines.

    Returns:
        Shape (batch, candidates), float32.

    Raises:
        ValueError: a temperature that is not positive.
    """
    require_positive_temperature(temperature)
    cosines = ops.matmul(normalised(projections), ops.transpose(normalised(candidates)))
    return cosines / temperature


def require_positive_temperature(temperature: float) -> None:
    """Check the divisor of the cosines; a tensor is not checked.

    Raises:
        ValueError: not a positive number.
    """
    if ops.is_tensor(temperature):
        return
    if not isinstance(temperature, Real) or not temperature > 0:
        raise ValueError(f"temperature must be positive. Received: temperature={temperature!r}")


def _require_same_shape(vectors_1: KerasTensor, vectors_2: KerasTensor) -> None:
    """Refuse different shapes, which arithmetic could broadcast; None fits any length."""
    shapes = tuple(vectors_1.shape), tuple(vectors_2.shape)
    pairs = itertools.zip_longest(*shapes, fillvalue=-1)
    if any(a != b for a, b in pairs if a is not None and b is not None):
        raise ValueError(f"both views must have the same shape. Received: {shapes[0]}, {shapes[1]}")


def contrastive_loss(
    projections_1: KerasTensor,
    projections_2: KerasTensor,
    temperature: float = 0.1,
    candidates: tuple[KerasTensor, KerasTensor] | None = None,
    first_row: KerasTensor | int = 0,
) -> KerasTensor:
    """Symmetric InfoNCE: classify the partner of each view among the other view's projections.

    The mean of two cross-entropies, view 1 against all views 2 and view 2 against all views 1
    (van den Oord et al. 2018, arXiv:1807.03748, eq. 4; both directions as in CLIP,
    arXiv:2103.00020, fig. 3). The inputs are normalised here.

    Args:
        projections_1: first view, shape (batch, dim).
        projections_2: second view, shape (batch, dim); row i is the partner of row i.
        temperature: positive divisor of the cosine similarities.
        candidates: projections of view 1 and of view 2 to compare with, each of shape
            (candidates, dim), such as those gathered from all replicas; None for the batch's own.
        first_row: row of the candidates at which the batch's own projections begin.

    Returns:
        Loss per example, shape (batch,), float32.

    Raises:
        ValueError: a temperature that is not positive, or two shapes.
    """
    _require_same_shape(projections_1, projections_2)
    if candidates is None:  # one matrix for both directions: half the work, less rounding
        similarities = cosine_similarities(projections_1, projections_2, temperature)
        directions = (similarities, ops.transpose(similarities))
    else:
        directions = (
            cosine_similarities(projections_1, candidates[1], temperature),
            cosine_similarities(projections_2, candidates[0], temperature),
        )
    partners = partner_columns(projections_1, first_row)
    first, second = (partner_cross_entropy(partners, each) for each in directions)
    return (first + second) / 2


def partner_columns(projections: KerasTensor, first_row: KerasTensor | int = 0) -> KerasTensor:
    """Return the column of each row's partner among the candidates, shape (batch,)."""
    return first_row + ops.arange(ops.shape(projections)[0])


def partner_cross_entropy(partners: KerasTensor, similarities: KerasTensor) -> KerasTensor:
    """Cross-entropy of choosing each row's partner among the columns.

    Args:
        partners: column of the partner, shape (batch,).
        similarities: logits, shape (batch, candidates).

    Returns:
        Shape (batch,).
    """
    return keras.losses.sparse_categorical_crossentropy(partners, similarities, from_logits=True)


def byol_loss(p: KerasTensor, z: KerasTensor) -> KerasTensor:
    """Squared distance of normalised predictions and targets: 2 - 2 x their mean cosine.

    One direction of BYOL's loss (Grill et al. 2020, arXiv:2006.07733, eq. 2). The paper adds
    the loss with the views exchanged; `BYOLModel` averages the two.

    Args:
        p: predictions of the online network, shape (batch, dim).
        z: projections of the target network, shape (batch, dim).

    Returns:
        Scalar, float32, from 0 to 4.

    Raises:
        ValueError: two shapes.
    """
    return 2 - 2 * mean_cosine(p, z)


def simsiam_loss(p: KerasTensor, z: KerasTensor) -> KerasTensor:
    """Negative cosine of predictions and projections, without gradient through the projections.

    One direction of SimSiam's loss (Chen and He 2020, arXiv:2011.10566, eq. 1 and 3);
    `SimSiamModel` averages both.

    Args:
        p: predictions from one view, shape (batch, dim).
        z: projections of the other view, shape (batch, dim).

    Returns:
        Scalar, float32, from -1 to 1.

    Raises:
        ValueError: two shapes.
    """
    return -mean_cosine(p, ops.stop_gradient(z))


def mean_cosine(vectors_1: KerasTensor, vectors_2: KerasTensor) -> KerasTensor:
    """Return the mean over the batch of the cosine of row i and row i: a scalar, float32.

    Raises:
        ValueError: two shapes.
    """
    _require_same_shape(vectors_1, vectors_2)
    return ops.mean(ops.sum(normalised(vectors_1) * normalised(vectors_2), axis=-1))


def barlow_twins_loss(
    projections_1: KerasTensor, projections_2: KerasTensor, off_diagonal_weight: float = 5e-3
) -> KerasTensor:
    """Squared distance of the views' cross-correlation matrix from the identity.

    The diagonal makes each dimension agree between the views; the rest decorrelates the
    dimensions (Zbontar et al. 2021, arXiv:2103.03230, eq. 1 and 2).

    Args:
        projections_1: first view, shape (batch, dim).
        projections_2: second view, shape (batch, dim); row i is the partner of row i.
        off_diagonal_weight: lambda, the weight of the off-diagonal terms.

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
        Shape (dim, dim), float32, from -1 to 1; 0 for a constant dimension.

    Raises:
        ValueError: two shapes.
    """
    _require_same_shape(projections_1, projections_2)
    first, second = _standardised(projections_1), _standardised(projections_2)
    return ops.matmul(ops.transpose(first), second) / ops.cast(ops.shape(first)[0], "float32")


def _standardised(vectors: KerasTensor) -> KerasTensor:
    """Scale each dimension to mean 0 and variance 1 over the batch."""
    vectors = ops.cast(vectors, "float32")
    mean, variance = ops.moments(vectors, axes=0, keepdims=True)
    return (vectors - mean) / ops.sqrt(variance + VARIANCE_EPSILON)


@keras.saving.register_keras_serializable(package="deeplens_tf")
def squared_error_dex(log10_mass: KerasTensor, predicted: KerasTensor) -> KerasTensor:
    """Squared error per image.

    Args:
        log10_mass: true log10 of the mass in eV, shape (batch, 1).
        predicted: output of `MassHead`, shape (batch, 1 or 2).

    Returns:
        Shape (batch,), in dex squared.
    """
    return ops.square(log10_mass - predicted[:, :1])[:, 0]


@keras.saving.register_keras_serializable(package="deeplens_tf")
def gaussian_negative_log_likelihood(
    log10_mass: KerasTensor, predicted: KerasTensor
) -> KerasTensor:
    """Return -log N(log10_mass | mean, std) per image, including the constant.

    Nix and Weigend 1994, doi:10.1109/ICNN.1994.374138, eq. 3.

    Args:
        log10_mass: true log10 of the mass in eV, shape (batch, 1).
        predicted: mean and standard deviation, shape (batch, 2).

    Returns:
        Shape (batch,).
    """
    mean, std = predicted[:, 0], predicted[:, 1]
    residual = (log10_mass[:, 0] - mean) / std
    return 0.5 * ops.square(residual) + ops.log(std) + 0.5 * math.log(2 * math.pi)


@keras.saving.register_keras_serializable(package="deeplens_tf")
def mae(target: KerasTensor, predicted: KerasTensor) -> KerasTensor:
    """Absolute error per image of any quantity; arguments as for `squared_error_dex`.

    Returns:
        Shape (batch,), in the unit of the quantity.
    """
    return mae_dex(target, predicted)


@keras.saving.register_keras_serializable(package="deeplens_tf")
def mae_dex(log10_mass: KerasTensor, predicted: KerasTensor) -> KerasTensor:
    """Absolute error per image; arguments as for `squared_error_dex`.

    Returns:
        Shape (batch,), in dex.
    """
    return ops.abs(log10_mass - predicted[:, :1])[:, 0]
