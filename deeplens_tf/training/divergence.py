"""Stopping a training that has diverged."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from deeplens_tf.errors import RequestError

LOSSES = ("loss", "val_loss")
ADVICE = (
    "the training has diverged: set a smaller optimizer.learning_rate, an optimizer.clip_norm, or "
    "train.precision=float32, in a new run"
)


def require_finite(
    where: str, logs: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray] | None = None
) -> None:
    """Refuse losses, weights or a state of the optimiser that are not finite.

    A step that mixed_float16 skips since its gradient overflows changes none of them.

    Args:
        where: the epoch and the step, for the message.
        logs: of the epoch so far; the loss is a mean over its steps, so one bad step shows.
        arrays: values of the variables by key, as far as they are at hand.

    Raises:
        RequestError: one is NaN or infinite; the message suggests what may help.
    """
    for name in LOSSES:
        value = float((logs or {}).get(name, 0.0))
        if not math.isfinite(value):
            raise RequestError(f"{where}: {name} is {value}, {ADVICE}")
    for key, array in (arrays or {}).items():
        if not np.isfinite(array).all():
            raise RequestError(f"{where}: {key} is not finite, {ADVICE}")


class StopWhenDiverged(keras.callbacks.Callback):
    """Stops the training after the first epoch with a loss that is not finite.

    Must come before the callbacks that save the model, so that they keep an earlier one. They
    check the weights themselves, since reading all of them takes long.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the losses of the epoch.

        Raises:
            RequestError: see `require_finite`.
        """
        require_finite(f"epoch {epoch + 1}", logs)
