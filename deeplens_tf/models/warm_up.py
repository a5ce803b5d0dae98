"""The learning rate of a training: a linear warm-up, then constant or a cosine to zero."""

import math
from typing import Any

import keras
from keras import KerasTensor, ops


@keras.saving.register_keras_serializable(package="deeplens_tf")
class WarmUpSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to a peak, which then stays, or falls to zero along half a cosine.

    Step s, counted from 0, of n warm-up steps has the rate peak x (s + 1) / n, so that already the
    first step trains; Keras's `CosineDecay` gives it a rate of 0, and Keras has no warm-up to a
    constant rate. After the warm-up the rate is peak x (1 + cos(pi t)) / 2, where
    t = (s - n) / decay_steps is at most 1: the cosine without restarts of Loshchilov and Hutter
    2016 (arXiv:1608.03983, eq. 5).

    Args:
        peak: the highest rate.
        warmup_steps: number of steps of the warm-up; 0 for none.
        decay_steps: number of steps of the cosine; None for a constant rate.

    Raises:
        ValueError: one of them is not in its range.

    Example:
        >>> keras.optimizers.SGD(WarmUpSchedule(0.1, warmup_steps=100, decay_steps=900))
    """

    def __init__(self, peak: float, warmup_steps: int = 0, decay_steps: int | None = None) -> None:
        super().__init__()
        if not peak > 0:
            raise ValueError(f"peak must be above 0. Received: peak={peak}")
        if warmup_steps < 0:
            raise ValueError(
                f"warmup_steps must be at least 0. Received: warmup_steps={warmup_steps}"
            )
        if decay_steps is not None and decay_steps < 1:
            raise ValueError(
                f"decay_steps must be at least 1 or None. Received: decay_steps={decay_steps}"
            )
        self.peak, self.warmup_steps, self.decay_steps = peak, warmup_steps, decay_steps

    def __call__(self, step: int | KerasTensor) -> KerasTensor:
        """Return the rate of a step, counted from 0: a float32 scalar."""
        step, peak = ops.cast(step, "float32"), ops.cast(self.peak, "float32")
        rising = peak * ((step + 1) / max(self.warmup_steps, 1))
        return ops.where(step < self.warmup_steps, rising, peak * self._after_warm_up(step))

    def _after_warm_up(self, step: KerasTensor) -> KerasTensor | float:
        """Return the fraction of the peak."""
        if self.decay_steps is None:
            return 1.0
        done = ops.minimum(step - self.warmup_steps, self.decay_steps) / self.decay_steps
        return 0.5 * (1.0 + ops.cos(math.pi * done))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
        }
