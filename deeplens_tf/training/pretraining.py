"""Pretraining: images without labels to `encoder.keras`."""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from deeplens_tf.config import Config
from deeplens_tf.data.batches import (
    BEGINNING,
    Position,
    PreparedData,
    dataset_facts,
    open_data,
    pretraining_batches,
    require_batch,
)
from deeplens_tf.distribution.strategy import Distribution, open_distribution
from deeplens_tf.figures.image_grids import inpainting_grid
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.models import InpaintingModel, build_encoder
from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.probes.frozen_features import untrained
from deeplens_tf.probes.validation_probes import validation_probes
from deeplens_tf.runs.resuming import finish, is_finished
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import save_model
from deeplens_tf.terminal import print_lines
from deeplens_tf.training.callbacks import CollapseWarning
from deeplens_tf.training.fitting import TrainingPlan, fit, start
from deeplens_tf.training.methods import build_method
from deeplens_tf.training.optimizers import build_optimizer, with_probe_rate
from deeplens_tf.training.probe_monitor import ProbeMonitor
from deeplens_tf.training.shared_run import claimed_run, common_config

MAX_INPAINTED = 6


def pretrain(config: Config, name: str, run_dir: str | None = None, strategy: str = "auto") -> Run:
    """Pretrain as configured; `encoder.keras` holds the last epoch's encoder.

    Args:
        config: complete configuration.
        name: the configuration's name, for the run folder's.
        run_dir: the run's folder, or None for a new one under `runs/`.
        strategy: where to compute, see `open_distribution`.

    Raises:
        RequestError: the configuration does not fit the data or the devices.
        DataError: the images cannot be used.
        ResourceError: the run's folder cannot be written to, or another machine is gone.
    """
    distribution = open_distribution(strategy)
    with distribution.connected():
        config = common_config("pretrain", config, run_dir, distribution)
        return _pretrain(config, name, run_dir, distribution)


def _pretrain(config: Config, name: str, run_dir: str | None, distribution: Distribution) -> Run:
    train = config.train
    distribution.require_divisible(train.batch_size)
    start(config)
    data = replace(distribution.chief_first(lambda: open_data(config)), share=distribution.share)
    require_batch(train.batch_size, data.count("train"), "training images")
    steps = data.count("train") // train.batch_size
    with distribution.scope():
        model = _compiled_model(config, data, steps, distribution)
    facts = dataset_facts(data)
    with claimed_run("pretrain", name, config, run_dir, facts, distribution) as run:
        if not any(distribution.any(is_finished(config, run.folder))):
            _train(_course(model, config, data, steps, distribution), config, run)
    return run


def _train(course: TrainingPlan, config: Config, run: Run) -> None:
    fit(course, config, run, [CollapseWarning(), *_probes(course, config, run)])
    save_model(course.model.encoder, run.encoder)
    if isinstance(course.model, InpaintingModel):
        _draw_inpainting(course.model, course.validation or course.batches(BEGINNING), run)
    finish(run, config, run.encoder)


def _probes(course: TrainingPlan, config: Config, run: Run) -> list[ProbeMonitor]:
    """Return the callback that probes the encoder, where it is asked for and there are labels."""
    every, chief = config.pretrain.probe_every_epochs, course.distribution.is_chief
    if every is None:
        return []
    probes = validation_probes(course.data, config)
    if not probes.heads:
        if chief:
            print_lines(
                "probes: none, for they need labels or masses in training and validation split"
            )
        return []
    control = untrained(config, course.data)
    return [ProbeMonitor(run.history, every, control, probes.names, probes.scores, chief)]


def _course(
    model: SelfSupervisedModel,
    config: Config,
    data: PreparedData,
    steps: int,
    distribution: Distribution,
) -> TrainingPlan:
    train, patches = config.train, model.patch_count

    def batches(start: Position) -> tf.data.Dataset:
        return pretraining_batches(
            data, "train", config.augment, train.batch_size, train.epochs, patches, start
        )

    size = distribution.divisible(min(train.batch_size, data.count("validation")))
    validation = _validation(config, data, patches, size)
    return TrainingPlan(model, data, batches, validation, steps, distribution)


def _compiled_model(
    config: Config, data: PreparedData, steps: int, distribution: Distribution
) -> SelfSupervisedModel:
    encoder = build_encoder(config.encoder.name, data.image_shape, **config.encoder.options())
    epochs = config.schedule_epochs
    model = build_method(config.pretrain, encoder, len(data.classes), steps * epochs)
    optimizer = build_optimizer(config.optimizer, steps, epochs)
    if data.classes:
        optimizer = with_probe_rate(optimizer, config.pretrain.probe_learning_rate)
    compiled = config.train.jit_compile and distribution.can_compile
    model.compile(optimizer=optimizer, jit_compile=compiled)
    return model


def _validation(
    config: Config, data: PreparedData, patches: int, batch_size: int
) -> tf.data.Dataset | None:
    # Negatives come from the batch, so batches are whole; a small split is one smaller batch.
    if batch_size < 2:
        return None
    return pretraining_batches(data, "validation", config.augment, batch_size, None, patches)


def _draw_inpainting(model: InpaintingModel, batches: tf.data.Dataset, run: Run) -> None:
    """Leave a picture of a few images, what the encoder saw of them and what came back."""
    batch = next(iter(batches))
    step = max(1, len(batch["image"]) // MAX_INPAINTED)
    batch = {key: values[::step][:MAX_INPAINTED] for key, values in batch.items()}
    masked, inpainted = (np.asarray(images) for images in model.inpaint(batch))
    figure = inpainting_grid(batch["view_1"].numpy(), masked, inpainted)
    save_figure(figure, run.figures / "inpainting.png")
