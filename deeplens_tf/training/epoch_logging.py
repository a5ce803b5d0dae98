"""The callback that tells the services of a run that an epoch is over."""

from typing import Any

import keras

from deeplens_tf.tracking.session import Session


class LogEpochs(keras.callbacks.Callback):
    """Logs the epochs of `history.csv` that are new; must come after the callbacks that write it.

    Args:
        session: the services of the run.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log what is new."""
        self.session.log_epochs()
