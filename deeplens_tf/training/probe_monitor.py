"""`history.csv` with the scores of probes on the frozen features, every few epochs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from deeplens_tf.training.history_file import HistoryFile

Scores = dict[str, float]


class ProbeMonitor(HistoryFile):
    """Writes the logs of all epochs with the scores of probes and of the untrained control.

    Must come after the plain `HistoryFile` among the callbacks, whose file it replaces. An epoch
    without probes has NaN in their columns.

    Args:
        path: the file.
        every_epochs: interval between probes.
        untrained: the encoder with the initial weights of the run. It receives the trained weights
            for each probe, so that probing does not depend on the devices of the training.
        names: of the scores.
        scores: encoder -> a score for each name.
        is_chief: whether this process probes; the rows of the others have NaN.
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
        """Add the row of the epoch, after probing if it is due."""
        found = control = dict.fromkeys(self.names, math.nan)
        if (epoch + 1) % self.every_epochs == 0:
            # On every worker, since reading a distributed variable may involve all of them.
            weights = self.model.encoder.get_weights()
            if self.is_chief:
                found, control = self._probe(weights)
        columns = {f"val_{name}": value for name, value in found.items()}
        columns |= {f"val_{name}_control": value for name, value in control.items()}
        super().on_epoch_end(epoch, {**(logs or {}), **columns})

    def _probe(self, weights: list[Any]) -> tuple[Scores, Scores]:
        """Return the scores of the trained weights and of the control."""
        if self.control is None:
            self.control = self.scores(self._network)  # which still has its initial weights
        self._network.set_weights(weights)
        return self.scores(self._network), self.control

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores."""
        return {**super().state(), "control": self.control}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint and the scores of the control."""
        self.control = state["control"]
        super().restore(state)
