"""Fine-tuning: from an encoder and labels to `model.keras`."""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from deeplens_tf.config import FROM_SCRATCH, Config, FinetuneConfig
from deeplens_tf.configuration_keys import configuration_keys
from deeplens_tf.data.batches import (
    labelled_batches,
)
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.image_data import WHOLE
from deeplens_tf.data.prepared_data import PreparedData, dataset_facts, open_data
from deeplens_tf.data.streams import Position
from deeplens_tf.data.targets import target_digests
from deeplens_tf.data.view_making import (
    build_augment,
    report_missing_margin,
    require_one_list,
    view_margin,
)
from deeplens_tf.distribution.strategy import Distribution, open_distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import encoder_file
from deeplens_tf.models import DownstreamModel, rate_factors
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.runs.provenance import encoder_origin
from deeplens_tf.runs.resuming import TRAINED_ON, OpenedRun, finish
from deeplens_tf.runs.run_folder import Run, run_of
from deeplens_tf.runs.seen_images import (
    TRAINED,
    VALIDATION,
    images_of,
    images_of_encoder,
    record_images,
)
from deeplens_tf.saving.keras_files import load_fine_tuned, require_loadable
from deeplens_tf.terminal import print_lines
from deeplens_tf.training.batch_size import FINETUNING, require_possible, with_batch_size
from deeplens_tf.training.callbacks import HeadFirst, SaveBest
from deeplens_tf.training.class_weights import class_weights, require_classification
from deeplens_tf.training.compilation import with_compilation
from deeplens_tf.training.fitting import TrainingPlan, fit, require_usable, started
from deeplens_tf.training.optimizers import build_optimizer
from deeplens_tf.training.outcome import outcome, what_helps
from deeplens_tf.training.shared_run import claimed_run, finished_run, open_shared_run
from deeplens_tf.training.starting_encoder import (
    new_encoder,
    starting_preprocessing,
    trained_encoder,
)
from deeplens_tf.training.tasks import Task, build_task
from deeplens_tf.training.tensorboard_pictures import write_embeddings
from deeplens_tf.training.training_range import training_range


def finetune(
    config: Config,
    name: str,
    run_dir: str | None = None,
    strategy: str = "auto",
    opened: OpenedRun | None = None,
    profile: bool = False,
) -> Run:
    """Fine-tune as configured; `model.keras` contains the model of the best validation epoch.

    Args:
        config: complete configuration; `finetune.encoder` is a shipped name, a run folder or a
            file, or "none" for random weights, the supervised baseline.
        name: of the configuration, part of the name of a new run folder.
        run_dir: folder of the run, or None for a new one under `runs/`.
        strategy: devices to use, see `open_distribution`.
        opened: the result of `open_run`, if the caller has called it.
        profile: write a profile of some steps, see `TrainingPlan`.

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
            return _finetune(opened.config, name, run_dir, distribution, profile)


def _finetune(
    config: Config, name: str, run_dir: str | None, distribution: Distribution, profile: bool
) -> Run:
    require_possible(config, distribution)
    require_classification(config.finetune)
    _require_trained_encoder(config)
    require_usable(config)
    require_one_list(build_augment(config.augment))
    start = _starting_preprocessing(config)
    opened = distribution.chief_first(lambda: open_data(config, start))
    data = replace(opened, share=distribution.share)
    with distribution.scope():  # where metrics are created
        task = build_task(config.finetune, data, config.data.path)
    keep = task.training_rows(data, config.finetune, config.seed)
    count = int(keep.sum())
    config = with_batch_size(config, FINETUNING, count, "labelled training images", distribution)
    labels = data.index("train")["label"].to_numpy()[keep]
    weights = class_weights(config.finetune, labels, task.class_names)
    with distribution.scope():
        model = _model(config, data, task, keep, weights)
        config = with_compilation(config, model.encoder, count, distribution)
        _compile(model, config, task, count, distribution)
    trained_on = [split for split in TRAINED_ON if data.count(split)]
    facts = {
        **dataset_facts(data),
        "encoder": encoder_origin(_encoder_path(config)),
        "labels_used": count,
        "target_values": target_digests(data, trained_on, task.quantity),
        "class_weights": weights,
    }
    with claimed_run("finetune", name, config, run_dir, facts, distribution) as (run, finished):
        record_images(run, _seen_images(config, data, task, keep))
        if not finished:
            plan = _plan(model, config, data, task, keep, distribution)
            _train(replace(plan, profile=profile), config, run)
    return run


def _require_trained_encoder(config: Config) -> None:
    """Refuse settings of the encoder's training where it is not trained.

    Raises:
        RequestError: they stand beside `finetune.freeze`, or all epochs train the head only.
    """
    settings, neutral = config.finetune, {"head_epochs": 0, "encoder_rate": 1, "layer_decay": 1}
    unused = [key for key, value in neutral.items() if getattr(settings, key) != value]
    if settings.freeze and unused:
        raise RequestError(
            f"finetune.{unused[0]} must be {neutral[unused[0]]} with finetune.freeze, which trains "
            f"no encoder, not {getattr(settings, unused[0])}"
        )
    if settings.head_epochs >= config.train.epochs:
        raise RequestError(
            f"finetune.head_epochs must be below train.epochs, {config.train.epochs}, not "
            f"{settings.head_epochs}: to train the head only, set finetune.freeze=true"
        )


def _seen_images(config: Config, data: PreparedData, task: Task, keep: np.ndarray) -> pd.DataFrame:
    """Return the images that the model depends on, those of its encoder's run among them."""
    validation = data.index("train")[:0]
    if data.count("validation"):
        validation = data.index("validation")[task.usable("validation")]
    own = [
        images_of(data.index("train")[keep], TRAINED),
        images_of(validation, VALIDATION),
    ]
    path = _encoder_path(config)
    if path == FROM_SCRATCH:
        return pd.concat(own)
    return pd.concat([*own, images_of_encoder(run_of(encoder_file(path)), path)])


def _saver(plan: TrainingPlan, config: Config, run: Run) -> SaveBest:
    if plan.validation is None:
        return SaveBest(run.model, "loss")
    return SaveBest(run.model, "val_loss", config.train.validates)


def _train(plan: TrainingPlan, config: Config, run: Run) -> None:
    saver = _saver(plan, config, run)
    require_loadable(plan.model)
    phases = [HeadFirst(config.finetune.head_epochs)] if config.finetune.head_epochs else []
    fit(plan, config, run, [saver], [run.model], phases)
    if plan.distribution.is_chief:
        _report_outcome(plan.data, config.finetune, run)
        if count := config.logging.embedded_images:
            write_embeddings(run, run.model, plan.data, count)
    finish(run, config, run.model)


def _report_outcome(data: PreparedData, config: FinetuneConfig, run: Run) -> None:
    """Print what the validation images say of the model, if it is bad."""
    model = load_fine_tuned(run.model)
    lines = outcome(model, replace(data, share=WHOLE))
    if lines:
        print_lines(*lines, what_helps(config, model.class_weights is not None))


def _plan(
    model: keras.Model,
    config: Config,
    data: PreparedData,
    task: Task,
    keep: np.ndarray,
    distribution: Distribution,
) -> TrainingPlan:
    size, epochs = config.batch_size, config.train.epochs
    augment = build_augment(config.augment)
    if report := distribution.is_chief:
        report_missing_margin(data, augment)
    with_margin = view_margin(data, augment) > 0
    data = data.in_memory(config.data.in_memory, with_margin=with_margin, report=report)

    target = task.target("train")

    def batches(start: Position) -> tf.data.Dataset:
        return labelled_batches(data, "train", target, size, augment, epochs, keep, start)

    steps = int(keep.sum()) // size
    return TrainingPlan(model, data, batches, _validation(data, task, size), steps, distribution)


def _validation(data: PreparedData, task: Task, batch_size: int) -> tf.data.Dataset | None:
    if not data.count("validation"):
        return None
    usable = task.usable("validation")
    if not usable.any():
        return None
    return labelled_batches(data, "validation", task.target("validation"), batch_size, keep=usable)


def _model(
    config: Config,
    data: PreparedData,
    task: Task,
    keep: np.ndarray,
    weights: tuple[float, ...] | None,
) -> DownstreamModel:
    encoder = _encoder(config, data)
    freeze, spread = config.finetune.freeze, training_range(data, keep)
    return DownstreamModel(
        encoder, task.head, task.class_names, freeze, weights, spread, task.quantity
    )


def _compile(
    model: DownstreamModel, config: Config, task: Task, count: int, distribution: Distribution
) -> None:
    steps = count // config.batch_size
    rates = _variable_rates(model, config.finetune, steps)
    model.compile(
        optimizer=build_optimizer(config.optimizer, steps, config.schedule_epochs, **rates),
        loss=task.loss,
        loss_weights=task.loss_weight,
        metrics=task.metrics,
        jit_compile=config.train.jit_compile and distribution.can_compile,
    )


def _variable_rates(
    model: DownstreamModel, config: FinetuneConfig, steps: int
) -> dict[str, Sequence[float]]:
    """Return options of the optimiser where the variables are not all trained alike."""
    rates: dict[str, Sequence[float]] = {}
    if (config.encoder_rate, config.layer_decay) != (1, 1):
        with configuration_keys():
            factors = rate_factors(model, config.encoder_rate, config.layer_decay)
        rates["rate_factors"] = factors
    if late := config.head_epochs * steps:
        of_head = {id(variable) for variable in model.head.variables}
        variables = model.trainable_variables
        rates["first_steps"] = [0 if id(each) in of_head else late for each in variables]
    return rates


def _encoder(config: Config, data: PreparedData) -> keras.Model:
    encoder, path = new_encoder(config, data), _encoder_path(config)
    return encoder if path == FROM_SCRATCH else trained_encoder(path, encoder, config, data)


def _starting_preprocessing(config: Config) -> Preprocessing | None:
    path = _encoder_path(config)
    return None if path == FROM_SCRATCH else starting_preprocessing(path, config)


def _encoder_path(config: Config) -> str:
    if config.finetune.encoder is None:
        raise RequestError(
            "finetune.encoder must be a shipped name, hf://OWNER/NAME, a run folder, a file "
            f"or {FROM_SCRATCH!r}, not null"
        )
    return config.finetune.encoder
