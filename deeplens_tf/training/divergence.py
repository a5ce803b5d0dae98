"""A training that has diverged ends, for nothing that follows can be of use."""

import math
from typing import Any

import keras

from deeplens_tf.errors import RequestError

LOSSES = ("loss", "val_loss")


class StopWhenDiverged(keras.callbacks.Callback):
    """Ends the training after the first epoch with a loss that is no finite number.

    Must come before the `Checkpointer`, which then keeps the checkpoint of before.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the epoch's losses.

        Raises:
            RequestError: one is NaN or infinite, with what may help.
        """
        for name in LOSSES:
            value = float((logs or {}).get(name, 0.0))
            if not math.isfinite(value):
                raise RequestError(
                    f"epoch {epoch + 1}: {name} is {value}, the training has diverged: set a "
                    "smaller optimizer.learning_rate, an optimizer.clip_norm, or "
                    "train.precision=float32, in a new run"
                )
