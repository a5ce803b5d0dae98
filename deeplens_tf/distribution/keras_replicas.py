"""Changes to Keras objects, with which replicas compute the same as one device."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from deeplens_tf.models.replicas import Replicas


class StrategyReplicas(Replicas):
    """The replicas of a TensorFlow strategy."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.count = strategy.num_replicas_in_sync

    def gather(self, rows: KerasTensor) -> KerasTensor:
        """Return the rows of all replicas; TensorFlow sums their gradients."""
        context = tf.distribute.get_replica_context()
        if context is None:
            return rows
        # As float32, since TensorFlow does not gather bfloat16; the conversion is exact.
        gathered = tf.cast(context.all_gather(tf.cast(rows, tf.float32), axis=0), rows.dtype)
        equal = tf.debugging.assert_equal(
            tf.shape(gathered)[0],
            self.count * tf.shape(rows)[0],
            f"batch_size must be a multiple of the {self.count} replicas",
        )
        with tf.control_dependencies([equal]):
            gathered = tf.identity(gathered)
        # Gathering loses the static shape, of which only the number of rows is unknown.
        return tf.ensure_shape(gathered, (None, *rows.shape[1:]))

    def first_row(self, rows: KerasTensor) -> KerasTensor | int:
        """Return the index at which this replica's rows begin among the gathered ones."""
        context = tf.distribute.get_replica_context()
        return 0 if context is None else context.replica_id_in_sync_group * tf.shape(rows)[0]

    def mean(self, value: KerasTensor) -> KerasTensor:
        """Return the mean of a value over the replicas."""
        return _mean_over_replicas(value)


def connect_replicas(model: keras.Model) -> None:
    """Make a model compute on all replicas of its strategy what it would compute on one device.

    Negatives and the statistics of BatchNorms are those of the whole batch, which must divide
    equally among the replicas, and so is the gradient that is clipped.

    Call it again after each `compile`, and on a model that was loaded from a file.

    Args:
        model: created and compiled in the scope of a strategy.

    Raises:
        ValueError: a model that is not compiled, or of which a part was created outside of the
            scope; or an option of `compile` or the optimiser that replicas cannot have:
            `jit_compile`, `steps_per_execution` or `gradient_accumulation_steps`.

    Example:
        >>> with tf.distribute.MirroredStrategy().scope():
        ...     model = ContrastiveModel(encoder, projection_head(256))
        ...     model.compile(optimizer="adam")
        >>> connect_replicas(model)
        >>> model.fit(batches)
    """
    strategy = model.distribute_strategy
    if not model.compiled or strategy.num_replicas_in_sync == 1:
        raise ValueError(
            "model must be created and compiled in the scope of a strategy of several replicas. "
            f"Received: {model.name}, {'compiled' if model.compiled else 'not compiled'}, with "
            f"{strategy.num_replicas_in_sync} replicas"
        )
    _require_in_scope(model, strategy)
    _require_step_by_step(model)
    if hasattr(model, "replicas"):
        model.replicas = StrategyReplicas(strategy)
        if model.built:
            _build_without_a_batch(model)
    for layer in batch_norms(model):
        synchronise(layer)
    clip_the_summed_gradient(model.optimizer, strategy.num_replicas_in_sync)
    # What Keras has traced already knows nothing of the other replicas.
    model.train_function = model.test_function = None


def _require_in_scope(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Refuse variables that replicas would share: each would count the same steps again."""
    optimizers = [model.optimizer, *_optimizers(model.optimizer)]
    variables = [*model.variables, *(part for each in optimizers for part in each.variables)]
    for variable in variables:
        if not strategy.extended.variable_created_in_scope(variable.value):
            raise ValueError(
                "model must have all its parts, the encoder and the optimizer too, created in the "
                f"scope of its strategy. Received: {variable.path}, created outside"
            )


def _require_step_by_step(model: keras.Model) -> None:
    """Refuse what TensorFlow cannot do while replicas communicate; its own errors are obscure."""
    accumulated = [each.gradient_accumulation_steps for each in _optimizers(model.optimizer)]
    refused = {
        "jit_compile": model.jit_compile,
        "steps_per_execution": model.steps_per_execution > 1 and model.steps_per_execution,
        "gradient_accumulation_steps": max(steps or 0 for steps in accumulated),
    }
    for name, value in refused.items():
        if value:
            raise ValueError(
                f"{name} must be left out in the scope of a strategy of several replicas, whose "
                f"communication TensorFlow supports in single, uncompiled steps only. "
                f"Received: {name}={value}"
            )


def _build_without_a_batch(model: keras.Model) -> None:
    """Create the optimiser's variables, the only ones that a self-supervised model lacks.

    Keras would take a batch for that, which a dataset that counts its epochs must not lose.
    """
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    model._maybe_symbolic_build = lambda **batch: None


def batch_norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """Yield every BatchNorm of a model, also within nested models and layers."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return value if context is None else context.all_reduce("MEAN", value)


def synchronise(layer: keras.layers.BatchNormalization) -> None:
    """Compute mean and variance of a BatchNorm over all replicas, without changing its file.

    Keras's own `synchronized=True` is an option that its other backends refuse to load, and it
    computes the variance as a difference of two means, which is inaccurate.
    """

    def moments(inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if mask is not None:
            raise NotImplementedError("statistics over several replicas with a mask")
        axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
        mean = _mean_over_replicas(tf.reduce_mean(inputs, axes, keepdims=True))
        variance = _mean_over_replicas(tf.reduce_mean(tf.square(inputs - mean), axes))
        return tf.reshape(mean, [-1]), variance

    layer._moments = moments


def clip_the_summed_gradient(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Make an optimiser clip, and check for overflow, the gradient of the whole batch.

    Keras clips the gradient of each replica, and checks only that of the first one for overflow
    in float16.
    """
    if "apply" in vars(optimizer):
        return  # done already
    clipped = [each for each in _optimizers(optimizer) if _clips(each)]
    for each in clipped:
        _clip_equal_parts(each, replicas)
    if clipped or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        _apply_equal_parts(optimizer, replicas)


def _clips(optimizer: keras.optimizers.Optimizer) -> bool:
    limits = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    return any(limit is not None for limit in limits)


def _clip_equal_parts(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Clip the whole gradient, of which each replica has an equal part; files keep the limits."""
    clip = optimizer._clip_gradients

    def clip_part(parts: list[tf.Tensor]) -> list[tf.Tensor]:
        return [gradient / replicas for gradient in clip([part * replicas for part in parts])]

    optimizer._clip_gradients = clip_part


def _optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return the optimisers within a wrapper, or the optimiser itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _optimizers(optimizer.inner_optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _apply_equal_parts(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Give each replica an equal part of the summed gradient; Keras sums the parts again."""
    apply = optimizer.apply

    def apply_shared(gradients: list[tf.Tensor | None], variables: Any = None) -> None:
        known = [gradient for gradient in gradients if gradient is not None]
        whole = iter(tf.distribute.get_replica_context().all_reduce("SUM", known))
        shared = [None if gradient is None else next(whole) / replicas for gradient in gradients]
        apply(shared, variables)

    optimizer.apply = apply_shared


def with_leading_axis(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Add an axis to each metric of a step: on several workers Keras averages along one.

    It does so even for scalars (keras-team/keras issue 20585).
    """

    def stepped(data: Any) -> Any:
        return keras.tree.map_structure(lambda metric: tf.reshape(metric, (1,)), step(data))

    return stepped
