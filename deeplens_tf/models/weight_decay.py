"""Optimisers that shrink only kernels, also after they were saved and loaded.

Keras's `exclude_from_weight_decay` is not part of an optimiser's `get_config` (`BaseOptimizer` of
Keras 3.15): a compiled model that is loaded from a file, or a copy of the optimiser, decays every
variable. The optimisers here are Keras's, with the excluded names as an argument that is stored.
Their variables have the names that they have in Keras's.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.variable_rates import VariableRates

# Shrinking these towards zero does not regularise.
NOT_DECAYED = ("bias", "gamma", "beta", "scale", "positions", "class_token", "mask_token")


class _StoredExclusions(keras.optimizers.Optimizer):
    """Stores the names that `exclude_from_weight_decay` was given."""

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exclude the variables whose name contains one of `var_names`, and no others.

        Raises:
            ValueError: `var_list` is given, which cannot be stored.
        """
        if var_list:
            raise ValueError(
                "var_list must be left out, since only names are stored: give var_names. "
                f"Received: var_list={list(var_list)}"
            )
        if isinstance(var_names, str):
            raise ValueError(f"not_decayed must be a list of names. Received: {var_names!r}")
        self.not_decayed = tuple(var_names or ())
        super().exclude_from_weight_decay(var_names=list(self.not_decayed))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "not_decayed": list(self.not_decayed)}


@keras.saving.register_keras_serializable(package="deeplens_tf")
class SelectiveAdamW(_StoredExclusions, VariableRates, keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) with variables that do not decay.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: fraction of a variable, times the learning rate, that a step takes away.
        not_decayed: parts of the names of the variables that do not decay.
        name: of the optimiser, in the paths of its variables.
        rate_factors: factor of the learning rate for each variable, see the function of that name;
            None for equal rates.
        first_steps: for each variable, the number of steps before it is trained, as after
            `train_head_only`; None if all are trained from the beginning. Adam's correction of the
            initial bias of its moments then counts the steps of the variable. By those of the
            optimiser it would be missing, and the first hundred steps three to six times too long.
        **options: those of `keras.optimizers.AdamW`.

    Example:
        >>> model.compile(optimizer=SelectiveAdamW(1e-3, weight_decay=0.05))
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        not_decayed: Sequence[str] = NOT_DECAYED,
        name: str = "adam_w",
        rate_factors: Sequence[float] | None = None,
        first_steps: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **options)
        self.rate_factors, self.first_steps = rate_factors, first_steps
        self.exclude_from_weight_decay(var_names=not_decayed)

    def step_rate(self, variable: Any, rate: KerasTensor) -> KerasTensor:
        """Return the rate that Keras's correction by the optimiser's steps makes right."""
        if self.first_steps is None:
            return rate
        taken = ops.cast(self.iterations + 1, "float32")
        # At least 1, should float16 have skipped a step before the first one of this variable.
        own = ops.maximum(taken - self.first_steps[self._get_variable_index(variable)], 1.0)
        return rate * self._correction(own) / self._correction(taken)

    def _correction(self, steps: KerasTensor) -> KerasTensor:
        """Return Adam's factor of the step (Kingma and Ba 2014, arXiv:1412.6980, section 2)."""
        return ops.sqrt(1 - ops.power(self.beta_2, steps)) / (1 - ops.power(self.beta_1, steps))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {} if self.first_steps is None else {"first_steps": list(self.first_steps)}
        return super().get_config() | own


@keras.saving.register_keras_serializable(package="deeplens_tf")
class SelectiveSGD(_StoredExclusions, VariableRates, keras.optimizers.SGD):
    """SGD with decoupled weight decay (arXiv:1711.05101) and variables that do not decay.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: fraction of a variable, times the learning rate, that a step takes away; None
            for no decay.
        momentum: fraction of the last step that is added to a step, from 0 to 1.
        not_decayed: parts of the names of the variables that do not decay.
        name: of the optimiser, in the paths of its variables.
        rate_factors: see `SelectiveAdamW`.
        **options: those of `keras.optimizers.SGD`.

    Example:
        >>> model.compile(optimizer=SelectiveSGD(0.1, weight_decay=5e-4, momentum=0.9))
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        weight_decay: float | None = None,
        momentum: float = 0.0,
        not_decayed: Sequence[str] = NOT_DECAYED,
        name: str = "sgd",
        rate_factors: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            learning_rate, momentum=momentum, weight_decay=weight_decay, name=name, **options
        )
        self.rate_factors = rate_factors
        self.exclude_from_weight_decay(var_names=not_decayed)
