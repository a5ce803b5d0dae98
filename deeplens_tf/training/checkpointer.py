"""The callback that saves a training when it is due, and takes it up again."""

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
from deeplens_tf.data.batches import BEGINNING, Position
from deeplens_tf.distribution.strategy import ALONE, Distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.runs.checkpoints import Checkpoint, CheckpointStore
from deeplens_tf.training.model_arrays import arrays_of, assign
from deeplens_tf.training.signals import StopRequest

MAX_SAVING_SHARE = 0.02  # of the time, that saving by the clock may take
ALWAYS = ("model", "optimizer")


class Recorder(Protocol):
    """A callback that knows something a resumed run has to know."""

    def state(self) -> dict[str, Any]:
        """Return it as plain data."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take it back."""


class Checkpointer(keras.callbacks.Callback):
    """Saves everything a run needs to go on: when due, when told to stop, and at the end.

    Must be the last of the callbacks, so that it saves what the others have made of an epoch.

    Args:
        store: where to.
        when: how often.
        steps_per_epoch: steps after which an epoch ends.
        epochs: epochs in all; the last is always saved.
        stop: asked after every step, of the validation too.
        recorders: callbacks whose knowledge is saved; one of a kind.
        products: files that the callbacks write, saved too.
        distribution: the workers, which must save, leave and resume together.
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
        self._metrics: dict[str, np.ndarray] = {}  # as they were after the last step, if known
        self._saved: tuple[Position, Path | None] = (BEGINNING, None)
        self._saved_time, self._save_s = time.monotonic(), 0.0

    def resume(self, model: keras.Model) -> Checkpoint | None:
        """Go back to the newest checkpoint, if there is one; `position` then says where that is.

        Raises:
            RequestError: the checkpoint is of another training.
        """
        checkpoint = _from_chief(self.store, self.distribution)
        if checkpoint is None:
            return None
        state = checkpoint.state
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise RequestError(
                f"{checkpoint.folder}: of epochs of {state['steps_per_epoch']} steps, not "
                f"{self.steps_per_epoch}"
            )
        self.position = Position(state["epoch"], state["step"])
        assign(model, checkpoint.arrays, *ALWAYS)
        self._metrics = {k: v for k, v in checkpoint.arrays.items() if k.startswith("metrics/")}
        self._restore(checkpoint)
        self._saved, self._saved_time = (self.position, checkpoint.folder), time.monotonic()
        return checkpoint

    def _restore(self, checkpoint: Checkpoint) -> None:
        for recorder in self.recorders:
            recorder.restore(checkpoint.state["recorders"][type(recorder).__name__])
        for product in self.products:
            if (checkpoint.folder / product.name).exists():
                _copy(checkpoint.folder / product.name, product)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Give the metrics of an epoch that was broken off what Keras has just taken away."""
        self._offset = self.position.step
        if self.position.step:
            assign(self.model, self._metrics, "metrics")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if it is due or a signal has come, and leave if one has."""
        self.position = Position(self.position.epoch, self._offset + batch + 1)
        if self.position.step == self.steps_per_epoch:
            # The validation will use the same metrics.
            self._metrics = arrays_of(self.model, "metrics")
            due, told = False, self.stop.requested and self.distribution.workers == 1
        else:
            due, told = self._agreed(self.position.step)
        if due:
            self._save()
        if told:
            self._leave()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Leave a validation too, which a resumed run will begin again."""
        # Several workers leave together at its end.
        if self.stop.requested and self.distribution.workers == 1:
            self._leave()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if it is due or the last epoch, or a signal has come, and leave if one has."""
        self.position = Position(epoch + 1, 0)
        due, told = self._agreed(step=0)
        if due or epoch + 1 == self.epochs:
            self._save()
        if told:
            self._leave()

    def _total(self, position: Position) -> int:
        return position.epoch * self.steps_per_epoch + position.step

    def _agreed(self, step: int) -> tuple[bool, bool]:
        """Return whether to save and whether to leave: the same on all workers.

        They count the same steps, but have clocks and signals of their own.
        """
        by_steps = self._is_due_by_steps()
        if step % self.distribution.ask_every:
            return by_steps, False
        # The chief's clock, since only the chief knows how long a save takes.
        due = self.distribution.is_chief and self._is_due_by_clock()
        by_clock, told = self.distribution.any(due, self.stop.requested)
        return by_steps or by_clock, told

    def _is_due_by_steps(self) -> bool:
        steps = self._total(self.position) - self._total(self._saved[0])
        return self.when.every_steps is not None and steps >= self.when.every_steps

    def _is_due_by_clock(self) -> bool:
        if self.when.every_minutes is None:
            return False
        pause = max(60 * self.when.every_minutes, self._save_s / MAX_SAVING_SHARE)
        return time.monotonic() - self._saved_time >= pause

    def _leave(self) -> None:
        if self._saved[0] != self.position:
            self._save()
        # A worker that ends takes the others with it, and the chief may still be writing.
        self.distribution.wait_for_all()
        raise self.stop.stopped(self._saved[1] if self.distribution.is_chief else "on worker 0")

    def _save(self) -> None:
        began = time.monotonic()
        # On every worker, for a variable may be spread over all of them; only the chief writes.
        arrays, folder = self._arrays(), None
        if self.distribution.is_chief:
            step = self._total(self.position)
            folder = self.store.save(step, arrays, self._state(), self.products)
        self._saved, self._saved_time = (self.position, folder), time.monotonic()
        self._save_s = self._saved_time - began

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = arrays_of(self.model, *ALWAYS)
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
    """Return the newest checkpoint of the chief, the one worker that keeps any."""
    if distribution.workers == 1:
        return store.newest()
    checkpoint = store.newest() if distribution.is_chief else None
    content = distribution.from_chief(b"" if checkpoint is None else _packed(checkpoint))
    return _unpacked(content) if content else None


def _packed(checkpoint: Checkpoint) -> bytes:
    rest = {"folder": str(checkpoint.folder), "state": checkpoint.state}
    file = io.BytesIO()
    np.savez(file, rest=np.array(json.dumps(rest)), **checkpoint.arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> Checkpoint:
    arrays = dict(np.load(io.BytesIO(content)))
    rest = json.loads(str(arrays.pop("rest")))
    return Checkpoint(Path(rest["folder"]), arrays, rest["state"])


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as saved:
        write_whole(target, lambda file: shutil.copyfileobj(saved, file), durable=True)
