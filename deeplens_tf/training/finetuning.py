"""Fine-tuning: an encoder and labels to `model.keras`."""

from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.config import FROM_SCRATCH, Config
from deeplens_tf.data.batches import (
    Position,
    PreparedData,
    dataset_facts,
    labelled_batches,
    open_data,
    require_batch,
)
from deeplens_tf.distribution.strategy import Distribution, open_distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.models import DownstreamModel, build_encoder
from deeplens_tf.runs.provenance import encoder_origin
from deeplens_tf.runs.resuming import finish, is_finished
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder
from deeplens_tf.training.callbacks import SaveBest
from deeplens_tf.training.fitting import TrainingPlan, fit, start
from deeplens_tf.training.optimizers import build_optimizer
from deeplens_tf.training.shared_run import claimed_run, common_config
from deeplens_tf.training.tasks import Task, build_task


def finetune(config: Config, name: str, run_dir: str | None = None, strategy: str = "auto") -> Run:
    """Fine-tune as configured; `model.keras` holds the epoch best on validation.

    Args:
        config: complete configuration; `finetune.encoder` names a file, or "none" for random
            weights, the supervised baseline.
        name: the configuration's name, for the run folder's.
        run_dir: the run's folder, or None for a new one under `runs/`.
        strategy: where to compute, see `open_distribution`.

    Raises:
        RequestError: the configuration, the encoder, the data and the devices do not fit together.
        DataError: the images cannot be used.
        ResourceError: the run's folder cannot be written to, or another machine is gone.
    """
    distribution = open_distribution(strategy)
    with distribution.connected():
        config = common_config("finetune", config, run_dir, distribution)
        return _finetune(config, name, run_dir, distribution)


def _finetune(config: Config, name: str, run_dir: str | None, distribution: Distribution) -> Run:
    distribution.require_divisible(config.train.batch_size)
    start(config)
    data = replace(distribution.chief_first(lambda: open_data(config)), share=distribution.share)
    with distribution.scope():  # for its metrics
        task = build_task(config.finetune, data)
    keep = task.training_rows(data, config.finetune, config.seed)
    require_batch(config.train.batch_size, int(keep.sum()), "labelled training images")
    with distribution.scope():
        model = _compiled_model(config, data, task, keep, distribution)
    facts = {
        **dataset_facts(data),
        "encoder": encoder_origin(config.finetune.encoder),
        "labels_used": int(keep.sum()),
    }
    with claimed_run("finetune", name, config, run_dir, facts, distribution) as run:
        if not any(distribution.any(is_finished(config, run.folder))):
            _train(_course(model, config, data, task, keep, distribution), config, run)
    return run


def _train(course: TrainingPlan, config: Config, run: Run) -> None:
    saver = SaveBest(run.model, "loss" if course.validation is None else "val_loss")
    fit(course, config, run, [saver], [run.model])
    finish(run, config, run.model)


def _course(
    model: keras.Model,
    config: Config,
    data: PreparedData,
    task: Task,
    keep: np.ndarray,
    distribution: Distribution,
) -> TrainingPlan:
    size, epochs = config.train.batch_size, config.train.epochs

    def batches(start: Position) -> tf.data.Dataset:
        return labelled_batches(
            data, "train", task.target, size, config.augment, epochs, keep, start
        )

    steps = int(keep.sum()) // size
    return TrainingPlan(model, data, batches, _validation(data, task, size), steps, distribution)


def _validation(data: PreparedData, task: Task, batch_size: int) -> tf.data.Dataset | None:
    if not data.count("validation"):
        return None
    usable = task.usable(data.index("validation"))
    if not usable.any():
        return None
    return labelled_batches(data, "validation", task.target, batch_size, keep=usable)


def _compiled_model(
    config: Config, data: PreparedData, task: Task, keep: np.ndarray, distribution: Distribution
) -> keras.Model:
    encoder = _encoder(config, data)
    model = DownstreamModel(encoder, task.head, task.class_names, config.finetune.freeze)
    steps = keep.sum() // config.train.batch_size
    model.compile(
        optimizer=build_optimizer(config.optimizer, steps, config.schedule_epochs),
        loss=task.loss,
        metrics=task.metrics,
        jit_compile=config.train.jit_compile and distribution.can_compile,
    )
    return model


def _encoder(config: Config, data: PreparedData) -> keras.Model:
    wanted = build_encoder(config.encoder.name, data.image_shape, **config.encoder.options())
    if config.finetune.encoder == FROM_SCRATCH:
        return wanted
    found = load_encoder(config.finetune.encoder)
    _require_same(wanted, found, config.finetune.encoder)
    return found


def _require_same(wanted: keras.Model, found: keras.Model, path: str) -> None:
    """Refuse an encoder that is not the one that the configuration and the data describe."""
    ours, theirs = _architecture(wanted), _architecture(found)
    differing = [key for key in sorted(ours | theirs) if ours.get(key) != theirs.get(key)]
    if differing:
        listed = ", ".join(f"{k} {theirs.get(k)} instead of {ours.get(k)}" for k in differing)
        raise RequestError(f"{path}: an encoder of another architecture: {listed}")


def _architecture(encoder: keras.Model) -> dict[str, object]:
    config = {
        k: v for k, v in encoder.get_config().items() if k not in ("dtype", "trainable", "name")
    }
    config["image_shape"] = tuple(config["image_shape"])
    return config | {"encoder": type(encoder).__name__}
