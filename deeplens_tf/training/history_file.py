"""`history.csv`: one row per epoch, replaced completely at the end of each epoch."""

import csv
import io
from pathlib import Path
from typing import Any

import keras

from deeplens_tf.files.atomic_writing import write_whole, writing
from deeplens_tf.training.applied_rate import applied_learning_rate


class HistoryFile(keras.callbacks.Callback):
    """Writes the logs of all epochs, including those before a resumed run was interrupted.

    The column `learning_rate` contains the rate of the epoch's last step. It is empty in rows that
    earlier versions, which had no such column, left in a checkpoint. The columns of the
    validation are empty in the rows of epochs without one.

    Keras's `CSVLogger` appends in place: a run that is killed leaves half a row, and a resumed run
    repeats the rows after its checkpoint.

    Args:
        path: the file; it does not exist before the end of the first epoch.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the row of the epoch."""
        values = {**(logs or {}), **self._learning_rate()}
        row = {name: float(value) for name, value in sorted(values.items())}
        self.rows.append({"epoch": epoch, **row})
        self._write()

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores."""
        return {"rows": self.rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint, in the file too."""
        self.rows = state["rows"]
        self._write()

    def _learning_rate(self) -> dict[str, float]:
        optimizer = getattr(self.model, "optimizer", None)  # None if the model is not compiled
        return {} if optimizer is None else {"learning_rate": applied_learning_rate(optimizer)}

    def _write(self) -> None:
        with writing(self.path):
            if not self.rows:
                self.path.unlink(missing_ok=True)
                return
            text = io.StringIO()
            columns = {name for row in self.rows for name in row} - {"epoch"}
            table = csv.DictWriter(text, ["epoch", *sorted(columns)], lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)
            content = text.getvalue().encode()
            write_whole(self.path, lambda file: file.write(content), durable=True)
