"""`history.csv` with what probes find in the frozen features, every few epochs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from deeplens_tf.training.history_file import HistoryFile

Scores = dict[str, float]


class ProbeMonitor(HistoryFile):
    """Writes the epochs' logs beside the probes' scores and those of the untrained control.

    Stands after the plain `HistoryFile` among the callbacks and replaces what that one has
    written. An epoch that is not probed has NaN in the probes' columns.

    Args:
        path: the file.
        every_epochs: how often to probe.
        untrained: the network as the run's seed has made it. It takes the trained weights over
            whenever it is time, so that nothing here depends on where the training computes.
        names: of the scores.
        scores: encoder -> a score for each name.
        is_chief: whether this process is the one that probes; the others' rows have NaN.
    """

    def __init__(
        self,
        path: Path,
        every_epochs: int,
        untrained: keras.Model,
        names: list[str],
        scores: Callable[[keras.Model], Scores],
        is_chief: bool = True,
    ) -> None:
        super().__init__(path)
        self.every_epochs = every_epochs
        self.names, self.scores, self.is_chief = names, scores, is_chief
        self.control: Scores | None = None
        self._network = untrained

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the epoch's row, probing first if it is time."""
        found, control = dict.fromkeys(self.names, math.nan), dict.fromkeys(self.names, math.nan)
        if (epoch + 1) % self.every_epochs == 0:
            # On every worker: to read a variable, all of them may have to be asked.
            weights = self.model.encoder.get_weights()
            if self.is_chief:
                found, control = self._probe(weights), self.control
        columns = {f"val_{name}": value for name, value in found.items()}
        columns |= {f"val_{name}_control": value for name, value in control.items()}
        super().on_epoch_end(epoch, {**(logs or {}), **columns})

    def _probe(self, weights: list[Any]) -> Scores:
        if self.control is None:
            self.control = self.scores(self._network)  # which has its first weights still
        self._network.set_weights(weights)
        return self.scores(self._network)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {**super().state(), "control": self.control}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint's rows and to the control that was measured by then."""
        self.control = state["control"]
        super().restore(state)
