"""From the configuration to a Keras optimiser with its schedule."""

from collections.abc import Sequence
from typing import Any

import keras

from deeplens_tf.config import OptimizerConfig
from deeplens_tf.errors import RequestError
from deeplens_tf.models.warm_up import WarmUpSchedule
from deeplens_tf.models.weight_decay import SelectiveAdamW, SelectiveSGD


def build_optimizer(
    config: OptimizerConfig,
    steps_per_epoch: int,
    epochs: int,
    rate_factors: Sequence[float] | None = None,
    first_steps: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Build the optimiser; the schedule covers all steps of all epochs.

    Args:
        config: of the optimiser; every key of it has an effect.
        steps_per_epoch: optimiser steps per epoch.
        epochs: length of the schedule.
        rate_factors: of each variable, see `SelectiveAdamW`; None for equal rates.
        first_steps: of each variable, likewise; None if all are trained from the beginning.

    Raises:
        RequestError: see `require_used`.
    """
    require_used(config, epochs)
    rate = learning_rate(config, steps_per_epoch, epochs)
    options: dict[str, Any] = {"global_clipnorm": config.clip_norm}
    if config.name == "sgd":
        # Without decay, not by 0 times the kernels, which takes time.
        decay = config.weight_decay or None
        return SelectiveSGD(rate, decay, config.momentum, rate_factors=rate_factors, **options)
    own: dict[str, Any] = {"rate_factors": rate_factors, "first_steps": first_steps}
    if config.name == "adamw" or any(own.values()):
        # Without decay, as adam requires, it is Adam.
        return SelectiveAdamW(rate, config.weight_decay, **own, **options)
    return keras.optimizers.Adam(rate, **options)


def require_used(config: OptimizerConfig, epochs: int) -> None:
    """Refuse a configuration with a key that would have no effect.

    Args:
        config: of the optimiser.
        epochs: length of the schedule.

    Raises:
        RequestError: a weight decay or a momentum for an optimiser that has none, or a warm-up
            that is longer than the schedule.
    """
    if config.name == "adam" and config.weight_decay > 0:
        raise RequestError(
            f"optimizer.weight_decay must be 0 for adam, not {config.weight_decay}: adam with "
            "decoupled weight decay is adamw, and with an L2 penalty it is another method, which "
            "this package does not have; set optimizer.weight_decay=0 or optimizer.name=adamw"
        )
    if config.name != "sgd" and config.momentum > 0:
        raise RequestError(
            f"optimizer.momentum must be 0 for {config.name}, not {config.momentum}: only sgd "
            "uses it"
        )
    if config.warmup_epochs > epochs:
        raise RequestError(
            f"optimizer.warmup_epochs must be at most {epochs}, the epochs of the schedule, not "
            f"{config.warmup_epochs}: set it lower, or train.epochs or optimizer.schedule_epochs "
            "higher"
        )


def learning_rate(
    config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate: after a linear warm-up, constant or a cosine to zero.

    Args:
        config: of the optimiser.
        steps_per_epoch: optimiser steps per epoch.
        epochs: length of the schedule.
    """
    warmup = config.warmup_steps(steps_per_epoch)
    if config.schedule == "cosine":
        decay = max(steps_per_epoch * epochs - warmup, 1)
        return WarmUpSchedule(config.learning_rate, warmup, decay)
    return WarmUpSchedule(config.learning_rate, warmup) if warmup else config.learning_rate
