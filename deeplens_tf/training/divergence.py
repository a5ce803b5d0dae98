"""Stopping a training that has diverged."""

import math
from typing import Any

import keras

from deeplens_tf.errors import RequestError

LOSSES = ("loss", "val_loss")


class StopWhenDiverged(keras.callbacks.Callback):
    """Stops the training after the first epoch with a loss that is not finite.

    Must come before the `Checkpointer`, so that the last checkpoint is from before that epoch.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the losses of the epoch.

        Raises:
            RequestError: a loss is NaN or infinite; the message suggests what may help.
        """
        for name in LOSSES:
            value = float((logs or {}).get(name, 0.0))
            if not math.isfinite(value):
                raise RequestError(
                    f"epoch {epoch + 1}: {name} is {value}, the training has diverged: set a "
                    "smaller optimizer.learning_rate, an optimizer.clip_norm, or "
                    "train.precision=float32, in a new run"
                )
