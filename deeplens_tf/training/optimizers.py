"""From the configuration to a Keras optimiser with its schedule."""

import keras

from deeplens_tf.config import OptimizerConfig

# Only kernels decay: shrinking these towards zero does not regularise.
NOT_DECAYED = ["bias", "gamma", "beta", "positions", "class_token", "mask_token"]


def build_optimizer(
    config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> keras.optimizers.Optimizer:
    """Build the optimiser; the schedule covers all steps of all epochs.

    Args:
        config: name, learning rate, weight decay, schedule, warm-up and clipping.
        steps_per_epoch: optimiser steps per epoch.
        epochs: of the whole run.
    """
    rate = learning_rate(config, steps_per_epoch, epochs)
    if config.name == "adamw":
        optimizer = keras.optimizers.AdamW(
            rate, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm
        )
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
        return optimizer
    kind = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[config.name]
    return kind(rate, global_clipnorm=config.clip_norm)


def learning_rate(
    config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate: constant, or a linear warm-up followed by a cosine to zero.

    Cosine without restarts of Loshchilov and Hutter 2016 (arXiv:1608.03983, eq. 5).
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "constant":
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=max(steps_per_epoch * epochs - warmup, 1),
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
