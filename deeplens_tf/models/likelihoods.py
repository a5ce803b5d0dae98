"""How well a predicted log10 mass fits the true one; losses and metrics of the mass head.

All take the truth as (batch, 1) and the output of `MassHead` as (batch, 1 or 2), in dex.
"""

import math

import keras
from keras import KerasTensor, ops


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
