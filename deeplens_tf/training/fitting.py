"""Everything around Keras's `fit`: seeds, checkpoints, callbacks, curves."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import pandas as pd
import tensorflow as tf

from deeplens_tf.config import Config, LoggingConfig, TrainConfig
from deeplens_tf.configuration_keys import configuration_keys
from deeplens_tf.data.image_data import WHOLE
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.shards import verify_shards
from deeplens_tf.data.streams import BEGINNING, Position
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.distribution.strategy import ALONE, LOST, Distribution
from deeplens_tf.errors import ResourceError
from deeplens_tf.figures.history_figures import training_curves
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.files.atomic_writing import writing
from deeplens_tf.freed_memory import keep_freed_memory
from deeplens_tf.models.encoders import global_policy
from deeplens_tf.runs.checkpoints import CheckpointStore
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import print_lines, progress_verbosity
from deeplens_tf.tracking.service import require_packages
from deeplens_tf.tracking.session import tracked_training
from deeplens_tf.training.callbacks import ReturnMemory, StopAfterEpoch, tensorboard
from deeplens_tf.training.checkpointer import Checkpointer
from deeplens_tf.training.divergence import StopWhenDiverged
from deeplens_tf.training.epoch_logging import LogEpochs
from deeplens_tf.training.history_file import HistoryFile
from deeplens_tf.training.optimizers import require_used
from deeplens_tf.training.signals import StopRequest
from deeplens_tf.training.tensorboard_pictures import ViewPictures


@dataclass(frozen=True)
class TrainingPlan:
    """A model with the batches that it is trained and validated on.

    Attributes:
        model: compiled.
        data: source of the batches.
        batches: position -> the stream of all batches from there on, of unknown length; or a stream
            of known length of those of the epoch at hand.
        validation: batches of one pass, or None without a validation split.
        steps_per_epoch: steps in an epoch.
        distribution: devices to use; the model was created in its scope.
        profile: write a profile of some steps for TensorBoard.
    """

    model: keras.Model
    data: PreparedData
    batches: Callable[[Position], tf.data.Dataset]
    validation: tf.data.Dataset | None
    steps_per_epoch: int
    distribution: Distribution = ALONE
    profile: bool = False


def require_usable(config: Config) -> None:
    """Refuse a wrong configuration before the data are prepared, which may take long.

    Raises:
        RequestError: a setting of the optimiser, the encoder or the augmentations is wrong, or the
            package of a service in `logging` is not installed.
    """
    require_packages(config.logging)
    require_used(config.optimizer, config.schedule_epochs)
    with configuration_keys():
        config.encoder.arguments()
    build_augment(config.augment)


@contextlib.contextmanager
def started(config: Config) -> Iterator[None]:
    """Set the seed, and the precision of everything that is built within the block."""
    keras.utils.set_random_seed(config.seed)
    with global_policy(config.train.precision):
        yield


def fit(
    plan: TrainingPlan,
    config: Config,
    run: Run,
    recorders: Sequence[keras.callbacks.Callback] = (),
    products: Sequence[Path] = (),
    phases: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train from the beginning or from the newest checkpoint of the run, and draw the curves.

    Args:
        plan: model and batches.
        config: of the run.
        run: whose lock this process holds.
        recorders: callbacks with a state, see `checkpointer.Recorder`.
        products: files that the callbacks write.
        phases: callbacks without a state, which follow the number of the epoch.

    Raises:
        Stopped: a signal was received; everything is saved.
        RequestError: the training has diverged.
        DataError: the prepared images were changed or removed during the training.
        ResourceError: the run folder cannot be written to.
    """
    keep_freed_memory()
    # A new run begins with the stream whose shapes it asks for; to trace it takes half a second.
    batches = plan.batches
    plan = replace(plan, batches=functools.cache(batches))
    plan.distribution.prepare(plan.model, plan.batches(BEGINNING).element_spec)
    history = HistoryFile(run.history)
    history.restore(
        {"rows": []}
    )  # remove rows of a run that was killed before its first checkpoint
    with StopRequest() as stop, _outside_faults(plan.data, run):
        checkpointer = Checkpointer(
            CheckpointStore(run.checkpoints, config.checkpoint.keep),
            config.checkpoint,
            plan.steps_per_epoch,
            config.train.epochs,
            stop,
            [history, *recorders],
            products,
            plan.distribution,
        )
        others = [*phases, history, StopWhenDiverged(), *recorders]
        with contextlib.ExitStack() as exits:
            if plan.distribution.is_chief:
                others += _pictures(plan, config.logging, run, batches)
                session = exits.enter_context(tracked_training(run, config.logging))
                others.append(LogEpochs(session))
            _train(plan, config.train, run, checkpointer, others)
    if plan.distribution.is_chief:
        _save_curves(run)


def _pictures(
    plan: TrainingPlan,
    config: LoggingConfig,
    run: Run,
    new_batches: Callable[[Position], tf.data.Dataset],
) -> list[ViewPictures]:
    """Return the callback that writes pictures of views, if configured.

    Args:
        plan: whose batches from the beginning are kept anyway.
        config: of the logging.
        run: whose log it is.
        new_batches: position -> a stream that is not kept.
    """
    if config.views_every_epochs is None:
        return []

    def batches_of(epoch: int) -> tf.data.Dataset:
        start = Position(epoch, 0)
        return plan.batches(start) if start == BEGINNING else new_batches(start)

    return [ViewPictures(run, config.views_every_epochs, batches_of)]


def _train(
    plan: TrainingPlan,
    train: TrainConfig,
    run: Run,
    checkpointer: Checkpointer,
    others: Sequence[keras.callbacks.Callback],
) -> None:
    checkpoint = checkpointer.resume(plan.model)
    if checkpoint is not None and plan.distribution.is_chief:
        print_lines(f"resumed: {checkpoint.folder}")
    position = checkpointer.position
    epochs = train.epochs
    steps = (epochs - position.epoch) * plan.steps_per_epoch - position.step
    profiled = steps if plan.profile and plan.distribution.is_chief else 0
    callbacks = [tensorboard(run, profiled), *others, checkpointer, ReturnMemory()]
    if position.step == plan.steps_per_epoch:
        _close_epoch(plan, position.epoch, train, callbacks)
    elif position.step:
        _fit_epochs(plan, position, train, [*callbacks, StopAfterEpoch()])
    if checkpointer.position.epoch < epochs:
        _fit_epochs(plan, checkpointer.position, train, callbacks)


def _fit_epochs(
    plan: TrainingPlan,
    position: Position,
    train: TrainConfig,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train from a position to the end of the last epoch.

    From within an epoch it needs `StopAfterEpoch`, since the epochs after it have more steps.
    """
    spread, batches = plan.distribution.spread, plan.batches(position)
    # Without a number of steps Keras iterates a stream of known length anew in each epoch.
    is_of_one_epoch = int(batches.cardinality()) > 0
    plan.model.fit(
        spread(batches),
        validation_data=spread(plan.validation),
        validation_steps=plan.distribution.steps(plan.validation),
        validation_freq=[epoch + 1 for epoch in range(train.epochs) if train.validates(epoch)],
        steps_per_epoch=None if is_of_one_epoch else plan.steps_per_epoch - position.step,
        initial_epoch=position.epoch,
        epochs=train.epochs,
        # The stream is shuffled already; otherwise Keras warns that it cannot shuffle it.
        shuffle=False,
        verbose=progress_verbosity() if plan.distribution.is_chief else 0,
        callbacks=list(callbacks),
    )


def _close_epoch(
    plan: TrainingPlan,
    epoch: int,
    train: TrainConfig,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Do what `fit` does after the last step of an epoch, for a run interrupted there."""
    hooks = keras.callbacks.CallbackList(list(callbacks), model=plan.model)
    hooks.on_train_begin()
    hooks.on_epoch_begin(epoch)  # where the checkpointer restores the metrics
    logs = dict(plan.model.get_metrics_result())
    if plan.validation is not None and train.validates(epoch):
        found = plan.model.evaluate(
            plan.distribution.spread(plan.validation),
            steps=plan.distribution.steps(plan.validation),
            verbose=0,
            return_dict=True,
            callbacks=hooks,
        )
        logs |= {f"val_{name}": value for name, value in found.items()}
    hooks.on_epoch_end(epoch, logs)
    hooks.on_train_end()


@contextlib.contextmanager
def _outside_faults(data: PreparedData, run: Run) -> Iterator[None]:
    """Report the cause of a TensorFlow error outside of the program: a shard, disk or memory."""
    try:
        yield
    except tf.errors.OpError as error:
        if str(run.tensorboard) in error.message:
            reason = error.message.splitlines()[0].rpartition(";")[2].strip()
            raise ResourceError(f"{run.tensorboard}: cannot be written: {reason}") from error
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise ResourceError(
                "the device does not have enough memory for a step: set a smaller "
                "train.batch_size, or train.precision=mixed_bfloat16, in a new run"
            ) from error
        # The loss of another worker does not involve the images, and verifying them takes long.
        if data.share == WHOLE or not isinstance(error, LOST):
            verify_shards(data.folder, data.manifest)
        raise


def _save_curves(run: Run) -> None:
    history = pd.read_csv(run.history)
    with writing(run.figures):
        run.figures.mkdir(exist_ok=True)
        figure = training_curves({run.folder.name: history})
        save_figure(figure, run.figures / "training_curves.png")
