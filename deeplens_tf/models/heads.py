"""Small networks on the features of an encoder."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.own_defaults import with_own_defaults

MIN_STD_DEX = 1e-3


@with_own_defaults
def projection_head(width: int) -> keras.Sequential:
    """Return the contrastive projector: Dense(width, relu), Dense(width).

    (batch, features) -> (batch, width); the last layer is float32 under any precision policy,
    since its output goes into the loss.
    """
    return keras.Sequential(
        [
            keras.layers.Dense(width, activation="relu", name="hidden"),
            keras.layers.Dense(width, dtype="float32", name="out"),
        ],
        name="projector",
    )


@with_own_defaults
def batch_norm_mlp(
    widths: Sequence[int], name: str, norm_output: bool = False, momentum: float = 0.99
) -> keras.Sequential:
    """Return an MLP with a BatchNorm and relu after each layer but the last.

    (batch, features) -> (batch, widths[-1]); the last layer is float32 under any precision policy.
    Layers before a BatchNorm have no bias: the BatchNorm would subtract it, and Adam would turn
    the rounding noise in its gradient into steps.

    Args:
        widths: of the layers; the last one is the output's.
        name: of the network.
        norm_output: add a BatchNorm, without relu, after the last layer.
        momentum: part of their moving statistics that the BatchNorms keep in a step.

    Raises:
        ValueError: no width.
    """
    if not widths:
        raise ValueError(f"widths must contain that of the output. Received: widths={widths}")
    layers = []
    for i, width in enumerate(widths[:-1]):
        layers += [
            keras.layers.Dense(width, use_bias=False, name=f"dense_{i}"),
            keras.layers.BatchNormalization(momentum=momentum, name=f"norm_{i}"),
            keras.layers.Activation("relu", name=f"relu_{i}"),
        ]
    layers.append(
        keras.layers.Dense(widths[-1], use_bias=not norm_output, dtype="float32", name="out")
    )
    if norm_output:
        norm = keras.layers.BatchNormalization(momentum=momentum, dtype="float32", name="norm_out")
        layers.append(norm)
    return keras.Sequential(layers, name=name)


@with_own_defaults
def linear_probe(classes: int) -> keras.layers.Dense:
    """Return the online probe, a layer of class logits: (batch, features) -> (batch, classes)."""
    return keras.layers.Dense(classes, dtype="float32", name="probe")


@with_own_defaults
def classification_head(classes: int) -> keras.layers.Dense:
    """Return the layer of class probabilities: (batch, features) -> (batch, classes)."""
    return keras.layers.Dense(classes, activation="softmax", dtype="float32", name="head")


@keras.saving.register_keras_serializable(package="deeplens_tf")
class MassHead(keras.layers.Layer):
    """Features to log10 of the axion mass in eV, optionally with a standard deviation.

    Or to another quantity, with mean and standard deviations in its own unit. The linear layer
    predicts standardised masses, which are of order one; the head converts them to dex.

    Args:
        mean_dex: mean of the log10 masses of the training images.
        std_dex: standard deviation of the log10 masses of the training images.
        gaussian: predict a standard deviation too.
        min_std: smallest standard deviation that is predicted.

    Input shape:
        (batch, features)

    Output shape:
        (batch, 1): log10 mass; with `gaussian` (batch, 2): log10 mass, standard deviation.
    """

    @with_own_defaults
    def __init__(
        self,
        mean_dex: float,
        std_dex: float,
        gaussian: bool = False,
        min_std: float = MIN_STD_DEX,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.mean_dex = mean_dex
        self.std_dex = std_dex
        self.gaussian = gaussian
        self.min_std = min_std
        self.dense = keras.layers.Dense(1 + gaussian, dtype="float32", name="dense")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the linear layer."""
        self.dense.build(input_shape)

    def call(self, features: KerasTensor) -> KerasTensor:
        """Return the masses, and the standard deviations, in dex."""
        standardised = self.dense(features)  # (batch, 1 or 2)
        log10_mass = standardised[:, :1] * self.std_dex + self.mean_dex
        if not self.gaussian:
            return log10_mass
        std = ops.softplus(standardised[:, 1:]) * self.std_dex + self.min_std
        return ops.concatenate([log10_mass, std], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return (batch, 1 or 2)."""
        return (input_shape[0], 1 + self.gaussian)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "mean_dex": self.mean_dex,
            "std_dex": self.std_dex,
            "gaussian": self.gaussian,
            # Left out by default, so that a file is equal to those of earlier versions.
            **({} if self.min_std == MIN_STD_DEX else {"min_std": self.min_std}),
        }
