"""Changes to Keras objects that let replicas compute what one device would."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from deeplens_tf.models.replicas import Replicas


class StrategyReplicas(Replicas):
    """The replicas of a TensorFlow strategy, as a loss sees them."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.count = strategy.num_replicas_in_sync

    def gather(self, rows: KerasTensor) -> KerasTensor:
        """Return the rows of all replicas; TensorFlow adds up what flows back to them."""
        context = tf.distribute.get_replica_context()
        if context is None:
            return rows
        # As float32, for TensorFlow gathers no bfloat16; every value of 16 bits is one of its own.
        gathered = tf.cast(context.all_gather(tf.cast(rows, tf.float32), axis=0), rows.dtype)
        # Gathering forgets the shape, of which only the number of rows is in doubt.
        return tf.ensure_shape(gathered, (None, *rows.shape[1:]))

    def first_row(self, rows: KerasTensor) -> KerasTensor | int:
        """Return at which of the gathered rows this replica's own begin."""
        context = tf.distribute.get_replica_context()
        return 0 if context is None else context.replica_id_in_sync_group * tf.shape(rows)[0]

    def mean(self, value: KerasTensor) -> KerasTensor:
        """Return the mean over the replicas of a value that each has its own of."""
        return _mean_over_replicas(value)


def _batch_norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _batch_norms(layer)


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return value if context is None else context.all_reduce("MEAN", value)


def _synchronise(layer: keras.layers.BatchNormalization) -> None:
    """Let a BatchNorm take mean and variance over all replicas, and its file say nothing of it.

    Its own `synchronized=True` is an option that other backends of Keras refuse to load, and it
    takes the variance as a difference of two means, which may be all rounding.
    """

    def moments(inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if mask is not None:
            raise NotImplementedError("statistics over several replicas with a mask")
        axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
        mean = _mean_over_replicas(tf.reduce_mean(inputs, axes, keepdims=True))
        variance = _mean_over_replicas(tf.reduce_mean(tf.square(inputs - mean), axes))
        return tf.reshape(mean, [-1]), variance

    layer._moments = moments


def _optimise_by_the_sum(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Let what an optimiser does with a gradient, beside adding it up, be of the whole batch's.

    Keras clips each replica's own gradient, and asks the first replica's alone whether it has
    overflowed in float16.
    """
    clipped = [each for each in _optimizers(optimizer) if each.global_clipnorm is not None]
    for each in clipped:
        each.global_clipnorm /= replicas
    if clipped or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        _share_the_sum(optimizer, replicas)


def _optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return an optimiser's own, where it is a wrapper of others."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _optimizers(optimizer.inner_optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _share_the_sum(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Give each replica an equal part of the whole gradient, which Keras then adds up again."""
    apply = optimizer.apply

    def apply_shared(gradients: list[tf.Tensor | None], variables: Any = None) -> None:
        known = [gradient for gradient in gradients if gradient is not None]
        whole = iter(tf.distribute.get_replica_context().all_reduce("SUM", known))
        shared = [None if gradient is None else next(whole) / replicas for gradient in gradients]
        apply(shared, variables)

    optimizer.apply = apply_shared


def _with_leading_axis(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give each metric of a step an axis: over several workers Keras takes the mean along one.

    It does so even for scalars, which have none (keras-team/keras issue 20585).
    """

    def stepped(data: Any) -> Any:
        return keras.tree.map_structure(lambda metric: tf.reshape(metric, (1,)), step(data))

    return stepped
