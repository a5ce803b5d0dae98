"""What every training does around Keras's `fit`: seeds, checkpoints, callbacks, curves."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import pandas as pd
import tensorflow as tf

from deeplens_tf.config import Config
from deeplens_tf.data.batches import BEGINNING, WHOLE, Position, PreparedData
from deeplens_tf.data.shards import verify_shards
from deeplens_tf.distribution.strategy import ALONE, LOST, Distribution
from deeplens_tf.errors import ResourceError
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.figures.training_curves import training_curves
from deeplens_tf.files.atomic_writing import writing
from deeplens_tf.runs.checkpoints import CheckpointStore
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import print_lines, progress_verbosity
from deeplens_tf.training.callbacks import tensorboard
from deeplens_tf.training.checkpointer import Checkpointer
from deeplens_tf.training.divergence import StopWhenDiverged
from deeplens_tf.training.history_file import HistoryFile
from deeplens_tf.training.signals import StopRequest


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained on what.

    Attributes:
        model: compiled.
        data: where the batches come from.
        batches: the stream of all epochs' batches, from a position on.
        validation: one pass, or None where there is no validation split.
        steps_per_epoch: steps after which an epoch ends.
        distribution: where the model computes; it was made in its scope.
    """

    model: keras.Model
    data: PreparedData
    batches: Callable[[Position], tf.data.Dataset]
    validation: tf.data.Dataset | None
    steps_per_epoch: int
    distribution: Distribution = ALONE


def start(config: Config) -> None:
    """Set the seed and the precision that everything built from here on has."""
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.train.precision)


def fit(
    course: TrainingPlan,
    config: Config,
    run: Run,
    recorders: Sequence[keras.callbacks.Callback] = (),
    products: Sequence[Path] = (),
) -> None:
    """Train from the beginning or from the run's newest checkpoint, and leave the curves.

    Args:
        course: what is trained on what.
        config: of the run.
        run: its folder, whose lock this process holds.
        recorders: callbacks of this training, see `checkpointer.Recorder`.
        products: files that they write.

    Raises:
        Stopped: a signal has come; everything is saved.
        RequestError: the training has diverged.
        DataError: the prepared images were changed or taken away meanwhile.
        ResourceError: the run's folder cannot be written to.
    """
    course.distribution.prepare(course.model, course.batches(BEGINNING).element_spec)
    history = HistoryFile(run.history)
    history.restore({"rows": []})  # a run killed before its first checkpoint left some
    recorders = [history, *recorders]
    with StopRequest() as stop, _outside_faults(course.data, run):
        checkpointer = Checkpointer(
            CheckpointStore(run.checkpoints, config.checkpoint.keep),
            config.checkpoint,
            course.steps_per_epoch,
            config.train.epochs,
            stop,
            recorders,
            products,
            course.distribution,
        )
        _train(course, config.train.epochs, checkpointer, [tensorboard(run), *recorders])
    if course.distribution.is_chief:
        _save_curves(run)


def _train(
    course: TrainingPlan,
    epochs: int,
    checkpointer: Checkpointer,
    others: Sequence[keras.callbacks.Callback],
) -> None:
    callbacks = [*others, StopWhenDiverged(), checkpointer]
    checkpoint = checkpointer.resume(course.model)
    if checkpoint is not None and course.distribution.is_chief:
        print_lines(f"resumed: {checkpoint.folder}")
    position = checkpointer.position
    if position.step == course.steps_per_epoch:
        _close_epoch(course, position.epoch, callbacks)
    elif position.step:
        _fit_epochs(course, position, position.epoch + 1, callbacks)
    if checkpointer.position.epoch < epochs:
        _fit_epochs(course, checkpointer.position, epochs, callbacks)


def _fit_epochs(
    course: TrainingPlan,
    position: Position,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train to the end of epoch `epochs`; from within an epoch, that epoch alone."""
    spread = course.distribution.spread
    course.model.fit(
        spread(course.batches(position)),
        validation_data=spread(course.validation),
        validation_steps=course.distribution.steps(course.validation),
        steps_per_epoch=course.steps_per_epoch - position.step,
        initial_epoch=position.epoch,
        epochs=epochs,
        # The stream is in its order already; Keras would warn that it cannot shuffle it.
        shuffle=False,
        verbose=progress_verbosity() if course.distribution.is_chief else 0,
        callbacks=list(callbacks),
    )


def _close_epoch(
    course: TrainingPlan, epoch: int, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Do what `fit` does after an epoch's last step, for a run that was stopped right there."""
    hooks = keras.callbacks.CallbackList(list(callbacks), model=course.model)
    hooks.on_train_begin()
    hooks.on_epoch_begin(epoch)  # where the checkpointer gives the metrics their values back
    logs = dict(course.model.get_metrics_result())
    if course.validation is not None:
        found = course.model.evaluate(
            course.distribution.spread(course.validation),
            steps=course.distribution.steps(course.validation),
            verbose=0,
            return_dict=True,
            callbacks=hooks,
        )
        logs |= {f"val_{name}": value for name, value in found.items()}
    hooks.on_epoch_end(epoch, logs)
    hooks.on_train_end()


@contextlib.contextmanager
def _outside_faults(data: PreparedData, run: Run) -> Iterator[None]:
    """Say what is at fault outside when TensorFlow could not go on: a shard, or the disk."""
    try:
        yield
    except tf.errors.OpError as error:
        if str(run.tensorboard) in error.message:
            reason = error.message.splitlines()[0].rpartition(";")[2].strip()
            raise ResourceError(f"{run.tensorboard}: cannot be written: {reason}") from error
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise ResourceError(
                "the memory of the device does not suffice for a step: set a smaller "
                "train.batch_size, or train.precision=mixed_bfloat16, in a new run"
            ) from error
        # Another worker that is lost says nothing against the images, and to read them all takes
        # as long as they are large.
        if data.share == WHOLE or not isinstance(error, LOST):
            verify_shards(data.folder, data.manifest)
        raise


def _save_curves(run: Run) -> None:
    history = pd.read_csv(run.history)
    with writing(run.figures):
        run.figures.mkdir(exist_ok=True)
        figure = training_curves({run.folder.name: history})
        save_figure(figure, run.figures / "training_curves.png")
