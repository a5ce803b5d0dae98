"""`history.csv`: one row an epoch, written whole at each epoch's end."""

import csv
import io
from pathlib import Path
from typing import Any

import keras

from deeplens_tf.files.atomic_writing import write_whole, writing


class HistoryFile(keras.callbacks.Callback):
    """Writes the epochs' logs, those of a resumed run's earlier epochs included.

    Keras's `CSVLogger` appends in place: a run that is killed leaves half a row, and one that
    is resumed repeats what came after its checkpoint.

    Args:
        path: the file; there is none before the first epoch's end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the epoch's row."""
        values = {name: float(value) for name, value in sorted((logs or {}).items())}
        self.rows.append({"epoch": epoch, **values})
        self._write()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"rows": self.rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint's rows, in the file too."""
        self.rows = state["rows"]
        self._write()

    def _write(self) -> None:
        with writing(self.path):
            if not self.rows:
                self.path.unlink(missing_ok=True)
                return
            text = io.StringIO()
            table = csv.DictWriter(text, list(self.rows[-1]), lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)
            content = text.getvalue().encode()
            write_whole(self.path, lambda file: file.write(content), durable=True)
