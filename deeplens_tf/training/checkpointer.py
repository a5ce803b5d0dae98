"""The callback that saves checkpoints when they are due, and resumes from them."""

import io
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from deeplens_tf.config import CheckpointConfig
from deeplens_tf.data.streams import BEGINNING, Position
from deeplens_tf.distribution.strategy import ALONE, Distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.runs.checkpoints import Checkpoint, CheckpointStore
from deeplens_tf.training.divergence import require_finite
from deeplens_tf.training.model_arrays import arrays_of, assign
from deeplens_tf.training.signals import StopRequest

MAX_SAVING_SHARE = 0.02  # largest fraction of the time that saving by the clock may take
SAVED_ALWAYS = ("model", "optimizer")  # and within an epoch the metrics, which may be undefined


class Recorder(Protocol):
    """A callback with a state that a resumed run needs."""

    def state(self) -> dict[str, Any]:
        """Return the state as plain data."""

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state."""


class Checkpointer(keras.callbacks.Callback):
    """Saves everything that a run needs to resume: when due, when stopped, and at the end.

    Nothing that is not finite is saved: the training ends, and the earlier checkpoints stay.
    Must be the last callback, so that it saves the state of the others after an epoch.

    Args:
        store: of the run's checkpoints.
        when: interval between checkpoints.
        steps_per_epoch: steps in an epoch.
        epochs: total number of epochs; the last one is always saved.
        stop: checked after every step, also in validation.
        recorders: callbacks whose state is saved; at most one of each class.
        products: files that the callbacks write; they are saved too.
        distribution: the workers, which must save, stop and resume together.
    """

    def __init__(
        self,
        store: CheckpointStore,
        when: CheckpointConfig,
        steps_per_epoch: int,
        epochs: int,
        stop: StopRequest,
        recorders: Sequence[Recorder] = (),
        products: Sequence[Path] = (),
        distribution: Distribution = ALONE,
    ) -> None:
        super().__init__()
        self.distribution = distribution
        self.store, self.when, self.stop = store, when, stop
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs
        self.recorders, self.products = recorders, products
        self.position = BEGINNING
        self._offset = 0
        self._metrics: dict[str, np.ndarray] = {}  # after the last step, if known
        self._logs: dict[str, Any] | None = None  # likewise
        self._saved: tuple[Position, Path | None] = (BEGINNING, None)
        self._saved_time, self._save_s = time.monotonic(), 0.0

    def resume(self, model: keras.Model) -> Checkpoint | None:
        """Restore the newest checkpoint, if there is one, and set `position` to where it is.

        Raises:
            RequestError: the checkpoint belongs to another run.
        """
        checkpoint = _from_chief(self.store, self.distribution)
        if checkpoint is None:
            return None
        state = checkpoint.state
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise RequestError(
                f"{checkpoint.folder}: saved with {state['steps_per_epoch']} steps per epoch, "
                f"this run has {self.steps_per_epoch}"
            )
        self.position = Position(state["epoch"], state["step"])
        assign(model, checkpoint.arrays, *SAVED_ALWAYS)
        self._metrics = {k: v for k, v in checkpoint.arrays.items() if k.startswith("metrics/")}
        self._restore(checkpoint)
        self._saved, self._saved_time = (self.position, checkpoint.folder), time.monotonic()
        return checkpoint

    def _restore(self, checkpoint: Checkpoint) -> None:
        states = checkpoint.state["recorders"]
        for recorder in self.recorders:
            # The version that began the run may not have had this one.
            if type(recorder).__name__ in states:
                recorder.restore(states[type(recorder).__name__])
        for product in self.products:
            if (checkpoint.folder / product.name).exists():
                _copy(checkpoint.folder / product.name, product)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restore the metrics of an interrupted epoch, which Keras has just reset."""
        self._offset = self.position.step
        if self.position.step:
            assign(self.model, self._metrics, "metrics")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if a checkpoint is due or a signal was received; stop in the latter case."""
        self.position = Position(self.position.epoch, self._offset + batch + 1)
        self._logs = logs
        if self.position.step == self.steps_per_epoch:
            # The validation uses the same metrics.
            self._metrics = arrays_of(self.model, "metrics")
            due, stop = False, self.stop.requested and self.distribution.workers == 1
        else:
            due, stop = self._agreed(self.position.step)
        if due:
            self._save()
        if stop:
            self._stop()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop during a validation, which a resumed run repeats."""
        # Several workers stop together after the validation.
        if self.stop.requested and self.distribution.workers == 1:
            self._stop()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if a checkpoint is due, after the last epoch, or before stopping on a signal."""
        self.position = Position(epoch + 1, 0)
        due, stop = self._agreed(step=0)
        if due or epoch + 1 == self.epochs:
            self._save()
        if stop:
            self._stop()

    def _total(self, position: Position) -> int:
        return position.epoch * self.steps_per_epoch + position.step

    def _agreed(self, step: int) -> tuple[bool, bool]:
        """Return whether to save and whether to stop, the same on all workers.

        Workers count the same steps, but each has its own clock and receives its own signals.
        """
        by_steps = self._is_due_by_steps()
        if step % self.distribution.agree_every:
            return by_steps, False
        # By the chief's clock: only the chief measures how long saving takes.
        due = self.distribution.is_chief and self._is_due_by_clock()
        by_clock, stop = self.distribution.any(due, self.stop.requested)
        return by_steps or by_clock, stop

    def _is_due_by_steps(self) -> bool:
        steps = self._total(self.position) - self._total(self._saved[0])
        return self.when.every_steps is not None and steps >= self.when.every_steps

    def _is_due_by_clock(self) -> bool:
        if self.when.every_minutes is None:
            return False
        pause = max(60 * self.when.every_minutes, self._save_s / MAX_SAVING_SHARE)
        return time.monotonic() - self._saved_time >= pause

    def _stop(self) -> None:
        if self._saved[0] != self.position:
            self._save()
        # A worker that ends stops the others, and the chief may still be writing.
        self.distribution.wait_for_all()
        raise self.stop.stopped(self._saved[1] if self.distribution.is_chief else "on worker 0")

    def _save(self) -> None:
        began = time.monotonic()
        # On every worker, since a variable may be distributed; only the chief writes.
        arrays, folder = self._arrays(), None
        state = {key: array for key, array in arrays.items() if key.startswith(SAVED_ALWAYS)}
        require_finite(self._place(), self._logs, state)
        if self.distribution.is_chief:
            step = self._total(self.position)
            folder = self.store.save(step, arrays, self._state(), self.products)
        self._saved, self._saved_time = (self.position, folder), time.monotonic()
        self._save_s = self._saved_time - began

    def _place(self) -> str:
        epoch, step = self.position
        return f"epoch {epoch + 1}, step {step}" if step else f"epoch {epoch}"

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = arrays_of(self.model, *SAVED_ALWAYS)
        if self.position.step == self.steps_per_epoch:
            return arrays | self._metrics
        return arrays | (arrays_of(self.model, "metrics") if self.position.step else {})

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.position.epoch,
            "step": self.position.step,
            "steps_per_epoch": self.steps_per_epoch,
            "recorders": {type(it).__name__: it.state() for it in self.recorders},
        }


def _from_chief(store: CheckpointStore, distribution: Distribution) -> Checkpoint | None:
    """Return the newest checkpoint of the chief, which is the only worker with checkpoints."""
    if distribution.workers == 1:
        return store.newest()
    checkpoint = store.newest() if distribution.is_chief else None
    content = distribution.from_chief(b"" if checkpoint is None else _packed(checkpoint))
    return _unpacked(content) if content else None


def _packed(checkpoint: Checkpoint) -> bytes:
    rest = {"folder": str(checkpoint.folder), "state": checkpoint.state}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, rest=np.array(json.dumps(rest)), **checkpoint.arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> Checkpoint:
    arrays = dict(np.load(io.BytesIO(content)))
    rest = json.loads(str(arrays.pop("rest")))
    return Checkpoint(Path(rest["folder"]), arrays, rest["state"])


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as saved:
        write_whole(target, lambda file: shutil.copyfileobj(saved, file), durable=True)
