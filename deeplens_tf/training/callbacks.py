"""Keras callbacks of a run: TensorBoard, the best model so far, warnings of what goes wrong."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from deeplens_tf.freed_memory import return_freed_memory
from deeplens_tf.models.collapse import COLLAPSED_BELOW
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import save_model
from deeplens_tf.terminal import print_lines
from deeplens_tf.training.divergence import require_finite
from deeplens_tf.training.model_arrays import arrays_of

# A loss is on its plateau within this fraction of it.
PLATEAU_WIDTH = 0.01
# Below this fraction of its plateau a loss shows that the projections tell pairs apart.
LEARNING = 0.9
# Checkpoints store these two.
COLLAPSING, NOT_FINITE = "collapsing", "no finite numbers"
MESSAGES = {
    COLLAPSING: "features are collapsing: feature_std {:.4f}",
    NOT_FINITE: "features are not finite, the training has diverged: feature_std {}",
}


class SaveBest(keras.callbacks.Callback):
    """Saves the model whenever the monitored quantity falls below that of all earlier epochs.

    Args:
        path: the `.keras` file; it is replaced completely or not at all.
        monitor: a key of the epoch's logs; smaller is better.
        measured: number of an epoch -> whether its logs have the key.
    """

    def __init__(
        self, path: Path, monitor: str, measured: Callable[[int], bool] = lambda epoch: True
    ) -> None:
        super().__init__()
        self.path = path
        self.monitor = monitor
        self.measured = measured
        self.best = float("inf")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save if this epoch is the best.

        Raises:
            RequestError: its weights are not finite; an earlier file is unchanged.
        """
        if not self.measured(epoch):
            return
        value = (logs or {})[self.monitor]
        if value < self.best:
            require_finite(f"epoch {epoch + 1}", logs, arrays_of(self.model, "model"))
            self.best = value
            save_model(self.model, self.path)

    def state(self) -> dict[str, float]:
        """Return the state that a checkpoint stores."""
        return {"best": self.best}

    def restore(self, state: dict[str, float]) -> None:
        """Restore the state; the checkpoint contains the file too."""
        self.best = state["best"]


class HeadFirst(keras.callbacks.Callback):
    """Trains the head only in the first epochs, then everything.

    Which it is follows from the number of the epoch, so a resumed run needs no state of it.

    Args:
        epochs: number of epochs in which the encoder is frozen.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Freeze the encoder, or train it from this epoch on."""
        head_only = epoch < self.epochs
        if self.model.encoder.trainable == head_only:
            self.model.train_head_only(head_only)


class StopAfterEpoch(keras.callbacks.Callback):
    """Ends `fit` after one epoch, which the progress counts among those of the whole run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Let `fit` end."""
        self.model.stop_training = True


class ReturnMemory(keras.callbacks.Callback):
    """Returns freed memory to the kernel after the first step and after each epoch.

    The compilation of the first step leaves 0.2 GB, and small pieces in the place of the step's own
    memory, so that the second step would take as much again. After an epoch the memory of a step
    is not needed until the next one begins.
    """

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Wait for the first step."""
        self._is_first = True

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Return memory after the first step."""
        if self._is_first:
            return_freed_memory()
        self._is_first = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Return memory."""
        return_freed_memory()


class CollapseWarning(keras.callbacks.Callback):
    """Warns once when the features of all images become alike, and again after a recovery.

    Compares `feature_std` with `COLLAPSED_BELOW`. Features that are not finite are reported
    separately, since no comparison would detect them. Features that tell the pairs of a batch apart
    have not collapsed, however alike: a head with BatchNorm enlarges small differences (pairs of
    noisy lenses: feature_std 0.02, and a frozen probe far above the control). The loss is the mean
    of the epoch, so a collapse late in it may be reported an epoch later.

    Args:
        plateau: the loss of projections that tell no pairs apart; None for a method without one.
    """

    def __init__(self, plateau: float | None = None) -> None:
        super().__init__()
        self.plateau = plateau
        self.fault = ""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Warn about a fault of this epoch's features that the last epoch did not have."""
        value = float((logs or {})["feature_std"])
        fault = _fault_of(value)
        if fault == COLLAPSING and self._tells_pairs_apart(logs or {}):
            fault = ""
        if fault and fault != self.fault:
            message = MESSAGES[fault].format(value)
            print_lines(f"warning: epoch {epoch + 1}: {message}", stream=sys.stderr)
        self.fault = fault

    def _tells_pairs_apart(self, logs: dict[str, float]) -> bool:
        return self.plateau is not None and logs["pretext_loss"] < LEARNING * self.plateau

    def state(self) -> dict[str, str]:
        """Return the state that a checkpoint stores."""
        return {"fault": self.fault}

    def restore(self, state: dict[str, str]) -> None:
        """Restore the state."""
        self.fault = state["fault"]


class PlateauWarning(keras.callbacks.Callback):
    """Warns when the loss has not left its plateau after two epochs, and when it is back on it.

    Args:
        plateau: the loss of projections that tell no pairs apart, see `plateau_loss` of the model.
        images: number of images in a batch, on which it depends.
        remedies: what helps, for the message.
        is_chief: whether this process prints it.
    """

    def __init__(
        self, plateau: float, images: int, remedies: Sequence[str], is_chief: bool = True
    ) -> None:
        super().__init__()
        self.plateau, self.images = plateau, images
        self.remedies, self.is_chief = remedies, is_chief
        self.has_warned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Warn of an epoch on the plateau, unless it is the first or follows another."""
        loss = float((logs or {})["pretext_loss"])
        stays = epoch > 0 and loss >= (1 - PLATEAU_WIDTH) * self.plateau
        if stays and not self.has_warned and self.is_chief:
            print_lines(
                f"warning: epoch {epoch + 1}: the loss is {loss:.3f}, and that of projections "
                f"which tell no pairs of a batch of {self.images} apart is {self.plateau:.3f}; "
                f"what may help: {', '.join(self.remedies)}",
                stream=sys.stderr,
            )
        self.has_warned = stays

    def state(self) -> dict[str, bool]:
        """Return the state that a checkpoint stores."""
        return {"has_warned": self.has_warned}

    def restore(self, state: dict[str, bool]) -> None:
        """Restore the state."""
        self.has_warned = state["has_warned"]


def _fault_of(feature_std: float) -> str:
    if not math.isfinite(feature_std):
        return NOT_FINITE
    return COLLAPSING if feature_std < COLLAPSED_BELOW else ""


def tensorboard(run: Run, profiled: int = 0) -> keras.callbacks.Callback:
    """Return the callback that writes the logs of TensorBoard.

    Args:
        run: whose logs it writes.
        profiled: number of steps to come, of which ten are profiled; 0 for no profile.
    """
    first, last = _profiled_steps(profiled)
    if last:
        print_lines(
            f"profile: steps {first} to {last} of this command, in {run.tensorboard}; to open it, "
            f"install xprof and run tensorboard --logdir {run.tensorboard}"
        )
    return keras.callbacks.TensorBoard(
        str(run.tensorboard), write_graph=False, profile_batch=(first, last) if last else 0
    )


def _profiled_steps(steps: int) -> tuple[int, int]:
    """Return the first and the last of ten steps, after the first ten if there are as many."""
    last = min(20, steps)
    return max(last - 9, 1), last
