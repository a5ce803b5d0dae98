"""A learning rate for each variable, as a factor of the optimiser's."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor


class VariableRates(keras.optimizers.Optimizer):
    """Multiplies the learning rate, and the decoupled weight decay, by a factor of the variable.

    A part of the optimisers in `weight_decay`. Without factors they compute what Keras's do, bit
    for bit.
    """

    rate_factors: Sequence[float] | None = None
    """A factor for each variable, in the order in which the optimiser is built of them."""

    weight_decay: float | None

    def build(self, variables: list[Any]) -> None:
        """Create the optimiser's variables.

        Raises:
            ValueError: not one factor for each variable.
        """
        if self.rate_factors is not None and len(self.rate_factors) != len(variables):
            raise ValueError(
                f"rate_factors must be one factor for each of {len(variables)} variables. "
                f"Received: {len(self.rate_factors)}"
            )
        super().build(variables)

    def update_step(self, gradient: KerasTensor, variable: Any, learning_rate: KerasTensor) -> None:
        """Shrink and update a variable at its own rate."""
        rate = learning_rate
        if self.rate_factors is not None:
            rate = rate * self.rate_factors[self._get_variable_index(variable)]
            if self.weight_decay is not None and self._use_weight_decay(variable):
                self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, self.step_rate(variable, rate))

    def step_rate(self, variable: Any, rate: KerasTensor) -> KerasTensor:
        """Return the rate with which Keras updates a variable, given that of the variable."""
        return rate

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Shrink the variables at one rate; with factors `update_step` shrinks them."""
        if self.rate_factors is None:
            super()._apply_weight_decay(variables)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        # Left out by default, so that a file is equal to those of earlier versions.
        own = {} if self.rate_factors is None else {"rate_factors": list(self.rate_factors)}
        return super().get_config() | own


def rate_factors(
    model: keras.Model, encoder_rate: float = 1.0, layer_decay: float = 1.0
) -> list[float]:
    """Return a factor of the learning rate for each trainable variable of a fine-tuned model.

    1 for the head, `encoder_rate` for the encoder. Below its top the rate falls with the depth, as
    in ELECTRA (Clark et al. 2020, arXiv:2003.10555) and BEiT (Bao et al. 2021, arXiv:2106.08254):
    block k from the top, k = 1, 2, ..., has a further factor of layer_decay ** k, and what is below
    the last block has one power more. The blocks of a ResNet50 are its stages.

    Args:
        model: encoder and head.
        encoder_rate: factor for the encoder.
        layer_decay: factor from one block to the next.

    Raises:
        ValueError: a layer decay for an encoder whose `stages` are unknown.

    Example:
        >>> factors = rate_factors(model, encoder_rate=0.1, layer_decay=0.75)
        >>> model.compile(SelectiveAdamW(1e-3, rate_factors=factors), "categorical_crossentropy")
    """
    encoder = model.encoder
    factors = {id(variable): encoder_rate for variable in encoder.trainable_variables}
    stages = getattr(encoder, "stages", [])
    if layer_decay != 1 and not stages:
        raise ValueError(
            f"layer_decay must be 1 for {encoder.name}, the order of whose layers is unknown. "
            f"Received: layer_decay={layer_decay}"
        )
    for depth, layers in enumerate(reversed(stages), start=1):
        for variable in (each for layer in layers for each in layer.trainable_variables):
            factors[id(variable)] = encoder_rate * layer_decay**depth
    return [factors.get(id(variable), 1.0) for variable in model.trainable_variables]
