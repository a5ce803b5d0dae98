"""An optimiser that trains the online probe apart from everything else."""

from typing import Any

import keras


class _Choice:
    """Chooses the optimiser of a variable; what `MultiOptimizer` calls an optimiser map."""

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, probe_optimizer: keras.optimizers.Optimizer
    ) -> None:
        self.optimizer, self.probe_optimizer = optimizer, probe_optimizer
        self.probe_paths: set[str] = set()
        several = isinstance(optimizer, keras.optimizers.MultiOptimizer)
        self.choose = optimizer._optimizer_map if several else lambda variable: optimizer
        self.default_optimizer = None if several else optimizer

    def values(self) -> list[keras.optimizers.Optimizer]:
        return [self.probe_optimizer]

    def __call__(self, variable: keras.Variable) -> keras.optimizers.Optimizer:
        is_probe = variable.path in self.probe_paths
        return self.probe_optimizer if is_probe else self.choose(variable)


@keras.saving.register_keras_serializable(package="deeplens_tf")
class SeparateProbe(keras.optimizers.MultiOptimizer):
    """Two optimisers: one for the probe, one for all other variables.

    With a single optimiser, clipping by the norm of all gradients would let the labels scale the
    steps of the encoder through the gradient of the probe. `learning_rate` is that of the other
    variables, which callbacks may read and set.

    Args:
        optimizer: of all variables but the probe's.
        probe_optimizer: of the probe's variables.
        name: of this optimiser, in the paths of its variables.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        probe_optimizer: keras.optimizers.Optimizer,
        name: str = "multi_optimizer",
    ) -> None:
        choice = _Choice(optimizer, probe_optimizer)
        super().__init__(choice, loss_scale_factor=optimizer.loss_scale_factor, name=name)

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """Optimiser of all variables but the probe's."""
        return self._optimizer_map.optimizer

    @property
    def probe_optimizer(self) -> keras.optimizers.Optimizer:
        """Optimiser of the probe's variables."""
        return self._optimizer_map.probe_optimizer

    def bind(self, probe: keras.layers.Layer) -> None:
        """Train the variables of `probe` by the probe's optimiser."""
        self._optimizer_map.probe_paths = {variable.path for variable in probe.variables}

    @property
    def learning_rate(self) -> Any:
        """Learning rate of all variables but the probe's."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.optimizer.learning_rate = value

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, both optimisers serialised."""
        serialise = keras.saving.serialize_keras_object
        return {
            "optimizer": serialise(self.optimizer),
            "probe_optimizer": serialise(self.probe_optimizer),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SeparateProbe":
        """Rebuild the optimiser from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        nested = {key: restore(config[key]) for key in ("optimizer", "probe_optimizer")}
        return cls(**nested, name=config["name"])


def separate_probe(
    optimizer: keras.optimizers.Optimizer | str,
    probe: keras.layers.Layer,
    probe_optimizer: keras.optimizers.Optimizer | str | None = None,
) -> keras.optimizers.Optimizer:
    """Return an optimiser that trains a probe apart from all other variables.

    Args:
        optimizer: of all other variables; one that already does this is bound to the probe.
        probe: built layer.
        probe_optimizer: of the probe; None for that of `optimizer`, or for a copy of it.

    Raises:
        ValueError: a probe optimiser that wraps others.
    """
    optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scaling = {
            key: getattr(optimizer, key) for key in ("initial_scale", "dynamic_growth_steps")
        }
        inner = separate_probe(optimizer.inner_optimizer, probe, probe_optimizer)
        return keras.optimizers.LossScaleOptimizer(inner, **scaling, name=optimizer.name)
    if isinstance(optimizer, SeparateProbe) and probe_optimizer is not None:
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, SeparateProbe):
        chosen = _chosen(probe_optimizer) if probe_optimizer else _copy(optimizer, probe)
        optimizer = SeparateProbe(optimizer, chosen)
    optimizer.bind(probe)
    return optimizer


def _chosen(probe_optimizer: keras.optimizers.Optimizer | str) -> keras.optimizers.Optimizer:
    chosen = keras.optimizers.get(probe_optimizer)
    wrappers = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
    if isinstance(chosen, wrappers):
        raise ValueError(
            "probe_optimizer must be one that wraps no other; the loss is scaled for both. "
            f"Received: probe_optimizer={chosen!r}"
        )
    return chosen


def _copy(
    optimizer: keras.optimizers.Optimizer, probe: keras.layers.Layer
) -> keras.optimizers.Optimizer:
    """Return a copy of the optimiser that would train the probe."""
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        optimizer = optimizer._optimizer_map(probe.variables[0])
    copy = type(optimizer).from_config(optimizer.get_config())
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if pattern is not None:  # which `get_config` of Keras's own optimisers leaves out
        copy.exclude_from_weight_decay(var_names=pattern.pattern.split("|"))
    return copy
