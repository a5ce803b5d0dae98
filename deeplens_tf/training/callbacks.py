"""Keras callbacks of a run: TensorBoard, the best model so far, a warning."""

import math
import sys
from pathlib import Path

import keras

from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import save_model
from deeplens_tf.terminal import print_lines

# `feature_std` squared is 1 minus the mean cosine between the features of two images: here the
# images are alike to a thousandth. An untrained Vision Transformer, whose features of lenses are
# much alike to begin with, gives 0.09 to 0.15, and healthy runs without negatives stay above 0.05.
COLLAPSED_BELOW = 0.03

COLLAPSING, NOT_FINITE = "collapsing", "no finite numbers"
MEANING = {
    COLLAPSING: "all images are getting the same",
    NOT_FINITE: "the training has diverged",
}


class SaveBest(keras.callbacks.Callback):
    """Saves the model whenever the monitored quantity falls below all earlier epochs'.

    Args:
        path: the `.keras` file; it is replaced as a whole or not at all.
        monitor: a key of the epoch's logs; smaller is better.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        super().__init__()
        self.path = path
        self.monitor = monitor
        self.best = float("inf")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save if this epoch is the best."""
        value = (logs or {})[self.monitor]
        if value < self.best:
            self.best = value
            save_model(self.model, self.path)

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"best": self.best}

    def restore(self, state: dict[str, float]) -> None:
        """Take it back; the file is kept with the checkpoint."""
        self.best = state["best"]


class CollapseWarning(keras.callbacks.Callback):
    """Says so, once, when the features of all images become alike; and again after a recovery.

    Watches `feature_std` against `COLLAPSED_BELOW`. Features that are no finite numbers are
    called by their name: no comparison would tell them from healthy ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault = ""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Warn if something is wrong with this epoch's features that was not in the last one's."""
        value = float((logs or {})["feature_std"])
        fault = _fault_of_features(value)
        if fault and fault != self.fault:
            found = f"the features are {fault} (feature_std {value:.4f})"
            print_lines(f"warning: epoch {epoch + 1}: {found}: {MEANING[fault]}", stream=sys.stderr)
        self.fault = fault

    def state(self) -> dict[str, str]:
        """Return what a checkpoint keeps."""
        return {"fault": self.fault}

    def restore(self, state: dict[str, str]) -> None:
        """Take it back."""
        self.fault = state["fault"]


def _fault_of_features(feature_std: float) -> str:
    if not math.isfinite(feature_std):
        return NOT_FINITE
    return COLLAPSING if feature_std < COLLAPSED_BELOW else ""


def tensorboard(run: Run) -> keras.callbacks.Callback:
    """Return the callback that keeps TensorBoard's logs."""
    return keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False)
