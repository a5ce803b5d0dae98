"""Fine-tuning: from an encoder and labels to `model.keras`."""

from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.config import FROM_SCRATCH, Config
from deeplens_tf.configuration_keys import configuration_keys
from deeplens_tf.data.batches import (
    Position,
    build_augment,
    labelled_batches,
    report_missing_margin,
    require_batch,
    require_one_list,
)
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.prepared_data import PreparedData, dataset_facts, open_data
from deeplens_tf.distribution.strategy import Distribution, open_distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.models import DownstreamModel, build_encoder
from deeplens_tf.runs.provenance import encoder_origin
from deeplens_tf.runs.resuming import OpenedRun, finish
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder, require_loadable
from deeplens_tf.training.callbacks import SaveBest
from deeplens_tf.training.fitting import TrainingPlan, fit, require_usable, started
from deeplens_tf.training.optimizers import build_optimizer
from deeplens_tf.training.shared_run import claimed_run, finished_run, open_shared_run
from deeplens_tf.training.tasks import Task, build_task


def finetune(
    config: Config,
    name: str,
    run_dir: str | None = None,
    strategy: str = "auto",
    opened: OpenedRun | None = None,
) -> Run:
    """Fine-tune as configured; `model.keras` contains the model of the best validation epoch.

    Args:
        config: complete configuration; `finetune.encoder` is a run folder or a file, or "none" for
            random weights, the supervised baseline.
        name: of the configuration, part of the name of a new run folder.
        run_dir: folder of the run, or None for a new one under `runs/`.
        strategy: devices to use, see `open_distribution`.
        opened: the result of `open_run`, if the caller has called it.

    Raises:
        RequestError: the configuration, the encoder, the data and the devices do not fit together.
        DataError: the images cannot be used.
        ResourceError: the run folder cannot be written to, or another worker is lost.
    """
    distribution = open_distribution(strategy)
    with distribution.connected():
        if opened is None:
            config = with_folder_settings(config)
            opened = open_shared_run("finetune", config, run_dir, distribution)
        if opened.finished:
            return finished_run(run_dir, distribution)
        with started(opened.config):
            return _finetune(opened.config, name, run_dir, distribution)


def _finetune(config: Config, name: str, run_dir: str | None, distribution: Distribution) -> Run:
    distribution.require_divisible(config.train.batch_size)
    require_usable(config)
    require_one_list(build_augment(config.augment))
    data = replace(distribution.chief_first(lambda: open_data(config)), share=distribution.share)
    with distribution.scope():  # where metrics are created
        task = build_task(config.finetune, data)
    keep = task.training_rows(data, config.finetune, config.seed)
    require_batch(config.train.batch_size, int(keep.sum()), "labelled training images")
    with distribution.scope():
        model = _compiled_model(config, data, task, keep, distribution)
    facts = {
        **dataset_facts(data),
        "encoder": encoder_origin(_encoder_path(config)),
        "labels_used": int(keep.sum()),
    }
    with claimed_run("finetune", name, config, run_dir, facts, distribution) as (run, finished):
        if not finished:
            _train(_plan(model, config, data, task, keep, distribution), config, run)
    return run


def _train(plan: TrainingPlan, config: Config, run: Run) -> None:
    saver = SaveBest(run.model, "loss" if plan.validation is None else "val_loss")
    require_loadable(plan.model)
    fit(plan, config, run, [saver], [run.model])
    finish(run, config, run.model)


def _plan(
    model: keras.Model,
    config: Config,
    data: PreparedData,
    task: Task,
    keep: np.ndarray,
    distribution: Distribution,
) -> TrainingPlan:
    size, epochs = config.train.batch_size, config.train.epochs
    augment = build_augment(config.augment)
    if distribution.is_chief:
        report_missing_margin(data, augment)

    def batches(start: Position) -> tf.data.Dataset:
        return labelled_batches(data, "train", task.target, size, augment, epochs, keep, start)

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
    steps = int(keep.sum()) // config.train.batch_size
    model.compile(
        optimizer=build_optimizer(config.optimizer, steps, config.schedule_epochs),
        loss=task.loss,
        metrics=task.metrics,
        jit_compile=config.train.jit_compile and distribution.can_compile,
    )
    return model


def _encoder(config: Config, data: PreparedData) -> keras.Model:
    with configuration_keys():
        expected = build_encoder(
            config.encoder.name, data.image_shape, **config.encoder.arguments()
        )
    path = _encoder_path(config)
    if path == FROM_SCRATCH:
        return expected
    loaded = load_encoder(path)
    _require_same(expected, loaded, path)
    return loaded


def _encoder_path(config: Config) -> str:
    if config.finetune.encoder is None:
        raise RequestError(
            f"finetune.encoder must be a run folder, a file or {FROM_SCRATCH!r}, not null"
        )
    return config.finetune.encoder


def _require_same(expected: keras.Model, loaded: keras.Model, path: str) -> None:
    """Refuse an encoder that differs from the one of the configuration and the data."""
    wanted, found = _architecture(expected), _architecture(loaded)
    differing = [key for key in sorted(wanted | found) if wanted.get(key) != found.get(key)]
    if differing:
        listed = ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in differing)
        raise RequestError(f"{path}: its architecture differs from the configuration's: {listed}")


def _architecture(encoder: keras.Model) -> dict[str, object]:
    config = {
        k: v for k, v in encoder.get_config().items() if k not in ("dtype", "trainable", "name")
    }
    config["image_shape"] = tuple(config["image_shape"])
    return config | {"encoder": type(encoder).__name__}
