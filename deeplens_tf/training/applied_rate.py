"""The learning rate that an optimiser has applied."""

import keras

from deeplens_tf.models.probe_optimizer import SeparateProbe


def applied_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the last step that was taken.

    Of a `SeparateProbe` it is the rate of all variables but the probe's, of another
    `MultiOptimizer` that of its default optimiser. Keras's `learning_rate` is that of the next
    step. Before the first step both are the same.
    """
    optimizer = _main_optimizer(optimizer)
    rate = optimizer._learning_rate  # no public name returns the schedule
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # Like Keras, which gives a schedule this count, also when it accumulates gradients.
        taken = int(keras.ops.convert_to_numpy(optimizer._iterations))
        return float(keras.ops.convert_to_numpy(rate(max(taken - 1, 0))))
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _main_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimiser within wrappers that trains the encoder."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _main_optimizer(optimizer.inner_optimizer)
    if isinstance(optimizer, SeparateProbe):
        return _main_optimizer(optimizer.optimizer)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return optimizer.optimizers[-1]  # Keras lists the default last
    return optimizer
