"""Pretraining: from images without labels to `encoder.keras`."""

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from deeplens_tf.config import Config, PretrainConfig
from deeplens_tf.data.batches import pair_count, pretraining_batches
from deeplens_tf.data.drawn_batches import drawn_batches
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.objects import objects_text
from deeplens_tf.data.prepared_data import PreparedData, dataset_facts, open_data
from deeplens_tf.data.streams import BEGINNING, EpochOrder, Position
from deeplens_tf.data.view_making import build_augment, report_missing_margin, view_margin
from deeplens_tf.distribution.strategy import Distribution, open_distribution
from deeplens_tf.figures.image_grids import inpainting_grid
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.models import InpaintingModel, JointEmbeddingModel
from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.probes.frozen_features import untrained_encoder
from deeplens_tf.probes.validation_probes import build_validation_probes
from deeplens_tf.runs.provenance import encoder_origin
from deeplens_tf.runs.resuming import OpenedRun, finish
from deeplens_tf.runs.run_folder import Run, run_of
from deeplens_tf.runs.seen_images import PRETRAINED, images_of, images_of_encoder, record_images
from deeplens_tf.saving.keras_files import require_loadable, save_model
from deeplens_tf.terminal import print_lines
from deeplens_tf.training.batch_size import (
    PRETRAINING,
    require_possible,
    smallest_batch,
    with_batch_size,
)
from deeplens_tf.training.callbacks import CollapseWarning, PlateauWarning
from deeplens_tf.training.compilation import with_compilation
from deeplens_tf.training.drawn_stream import DrawnStream, open_stream, streamed_request
from deeplens_tf.training.fitting import TrainingPlan, fit, require_usable, started
from deeplens_tf.training.methods import build_method, method_settings
from deeplens_tf.training.neighbour_negatives import NeighbourNegatives, require_neighbours
from deeplens_tf.training.optimizers import build_optimizer
from deeplens_tf.training.probe_monitor import ProbeMonitor
from deeplens_tf.training.shared_run import claimed_run, finished_run, open_shared_run
from deeplens_tf.training.starting_encoder import (
    initial_file,
    keep_initial_encoder,
    pretraining_encoder,
    starting_preprocessing,
)
from deeplens_tf.training.tasks import possible_heads
from deeplens_tf.training.tensorboard_pictures import write_embeddings

MAX_INPAINTED = 6


def pretrain(
    config: Config,
    name: str,
    run_dir: str | None = None,
    strategy: str = "auto",
    opened: OpenedRun | None = None,
    profile: bool = False,
) -> Run:
    """Pretrain as configured; `encoder.keras` contains the encoder of the last epoch.

    Args:
        config: complete configuration.
        name: of the configuration, part of the name of a new run folder.
        run_dir: folder of the run, or None for a new one under `runs/`.
        strategy: devices to use, see `open_distribution`.
        opened: the result of `open_run`, if the caller has called it.
        profile: write a profile of some steps, see `TrainingPlan`.

    Raises:
        RequestError: the configuration does not fit the data or the devices.
        DataError: the images cannot be used.
        ResourceError: the run folder cannot be written to, or another worker is lost.
    """
    distribution = open_distribution(strategy)
    with distribution.connected():
        if opened is None:
            config = with_folder_settings(config)
            opened = open_shared_run("pretrain", config, run_dir, distribution)
        if opened.finished:
            return finished_run(run_dir, distribution)
        with started(opened.config):
            return _pretrain(opened.config, name, run_dir, distribution, profile)


def _pretrain(
    config: Config, name: str, run_dir: str | None, distribution: Distribution, profile: bool
) -> Run:
    smallest = smallest_batch(config)
    require_possible(config, distribution, smallest)
    require_usable(config)
    method_settings(config.pretrain)
    request = streamed_request(config, distribution)
    initial = initial_file(config, run_dir)
    start = starting_preprocessing(str(initial), config) if initial else None
    opened = distribution.chief_first(lambda: open_data(config, start))
    data = replace(opened, share=distribution.share)
    positives = config.pretrain.positives
    if distribution.is_chief and positives == "object":
        _report_objects(data, config)
    count = pair_count(data, "train", positives)
    what = "training images" if count == data.count("train") else "training objects"
    config = with_batch_size(config, PRETRAINING, count, what, distribution, smallest)
    steps = count // config.batch_size
    require_neighbours(config, data, steps, distribution)
    stream = None if request is None else open_stream(request, data, config, count)
    with distribution.scope():
        model = _model(config, data, steps, distribution, initial)
        config = with_compilation(config, model.encoder, steps * config.batch_size, distribution)
        _compile(model, config, steps, distribution)
    facts = {**dataset_facts(data), "possible_heads": possible_heads(data)}
    images = images_of(data.index("train"), PRETRAINED)
    if stream is not None:
        print_lines(stream.text())
        images, facts["stream"] = images[:0], stream.facts()  # no stored image is trained on
    if initial is not None:
        facts["encoder"] = encoder_origin(str(initial))
        images = pd.concat([images, images_of_encoder(run_of(initial), str(initial))])
    with claimed_run("pretrain", name, config, run_dir, facts, distribution) as (run, finished):
        record_images(run, images)
        if initial is not None:
            keep_initial_encoder(initial, run)
        if not finished:
            order = _order(config, steps)
            plan = _plan(model, config, data, steps, distribution, order, stream)
            with stream or contextlib.nullcontext():
                _train(replace(plan, profile=profile), config, run, order)
    return run


def _report_objects(data: PreparedData, config: Config) -> None:
    """Print how many objects have how many images, from which the two views are made."""
    if data.manifest.objects:
        print_lines(f"positives: {objects_text(data.objects('train'))}")
        return
    catalog = data.manifest.catalog
    lacks = f"{catalog.name} has no column object" if catalog else ""
    print_lines(
        f"positives: {lacks or f'{config.data.path} has no objects.csv'}: two views of each image"
    )


def _order(config: Config, steps: int) -> EpochOrder | None:
    """Return the order of the pairs where it depends on the encoder."""
    by_encoder = config.pretrain.negatives == "neighbours"
    return EpochOrder(steps * config.batch_size) if by_encoder else None


def _train(plan: TrainingPlan, config: Config, run: Run, order: EpochOrder | None) -> None:
    require_loadable(plan.model.encoder)
    plateau = plan.model.plateau_loss(config.batch_size)
    callbacks = [CollapseWarning(plateau), *_plateau_warning(plateau, plan, config)]
    callbacks += _probes(plan, config, run)
    if order is not None:
        callbacks.append(NeighbourNegatives(order, plan.data, config))
    fit(plan, config, run, callbacks)
    save_model(plan.model.encoder, run.encoder)
    if isinstance(plan.model, InpaintingModel):
        _draw_inpainting(plan.model, plan.validation or plan.batches(BEGINNING), run)
    if plan.distribution.is_chief and (count := config.logging.embedded_images):
        write_embeddings(run, run.encoder, plan.data, count)
    finish(run, config, run.encoder)


def _plateau_warning(
    plateau: float | None, plan: TrainingPlan, config: Config
) -> list[PlateauWarning]:
    """Return the callback that watches the loss, for a method that has a plateau."""
    if plateau is None:
        return []
    remedies = _plateau_remedies(config.pretrain)
    return [PlateauWarning(plateau, config.batch_size, remedies, plan.distribution.is_chief)]


def _plateau_remedies(config: PretrainConfig) -> list[str]:
    """Return what may help a run that stays on its plateau, without what it has already."""
    remedies = [f"a pretrain.temperature above {config.temperature:g}"]
    if config.method != "contrastive":  # a plugin's
        remedies = ["other pretrain.options"]
    elif config.contrastive.projector == "plain":
        remedies.insert(0, "pretrain.contrastive.projector=batch_norm")
    if config.encoder is None:
        remedies.append("a trained encoder to start from (pretrain.encoder)")
    return remedies


def _probes(plan: TrainingPlan, config: Config, run: Run) -> list[ProbeMonitor]:
    """Return the callback that probes the encoder, if configured and if there are labels."""
    every, chief = config.pretrain.probe_every_epochs, plan.distribution.is_chief
    if every is None:
        return []
    probes = build_validation_probes(plan.data, config)
    if not probes.heads:
        if chief:
            print_lines("probes: none; they need labels or masses for training and validation")
        return []
    control = untrained_encoder(config, plan.data.image_shape)
    return [ProbeMonitor(run.history, every, control, probes.names, probes.scores, chief)]


def _plan(
    model: SelfSupervisedModel,
    config: Config,
    data: PreparedData,
    steps: int,
    distribution: Distribution,
    order: EpochOrder | None,
    stream: DrawnStream | None,
) -> TrainingPlan:
    augment = build_augment(config.augment)
    positives = config.pretrain.positives
    options = (model.patch_count, model.keep_tokens < 1, positives)
    if report := distribution.is_chief:
        report_missing_margin(data, augment)
        if isinstance(model, JointEmbeddingModel) and model.keep_tokens < 1:
            print_lines(f"views: {model.kept} of {model.patch_count} patch tokens each")
    with_margin = view_margin(data, augment) > 0
    data = data.in_memory(config.data.in_memory, with_margin=with_margin, report=report)

    def batches(start: Position) -> tf.data.Dataset:
        size, epochs = config.batch_size, config.train.epochs
        if stream is not None:
            return drawn_batches(partial(stream.batches, start), data, augment, size, *options[:2])
        return pretraining_batches(data, "train", augment, size, epochs, *options, start, order)

    # Negatives come from the batch, so all batches are of one size; a small split is one batch.
    count = pair_count(data, "validation", positives)
    size = distribution.divisible(min(config.batch_size, count))
    validation = None
    if size >= 2:
        validation = pretraining_batches(data, "validation", augment, size, None, *options)
    return TrainingPlan(model, data, batches, validation, steps, distribution)


def _model(
    config: Config,
    data: PreparedData,
    steps: int,
    distribution: Distribution,
    initial: Path | None = None,
) -> SelfSupervisedModel:
    encoder = pretraining_encoder(config, data, initial)
    classes = len(data.classes) if "classification" in possible_heads(data) else 0
    if not classes and distribution.is_chief:
        print_lines("online probe: none; it needs training images of two or more classes")
    return build_method(config.pretrain, encoder, classes, steps * config.schedule_epochs)


def _compile(
    model: SelfSupervisedModel, config: Config, steps: int, distribution: Distribution
) -> None:
    rate = config.pretrain.probe_learning_rate
    model.compile(
        optimizer=build_optimizer(config.optimizer, steps, config.schedule_epochs),
        probe_optimizer=keras.optimizers.Adam(rate) if model.probe is not None else None,
        probe_on=config.pretrain.probe_on,
        jit_compile=config.train.jit_compile and distribution.can_compile,
    )


def _draw_inpainting(model: InpaintingModel, batches: tf.data.Dataset, run: Run) -> None:
    """Save a picture of a few images, their visible patches and the inpainted images."""
    batch = next(iter(batches))
    step = max(1, len(batch["image"]) // MAX_INPAINTED)
    batch = {key: values[::step][:MAX_INPAINTED] for key, values in batch.items()}
    masked, inpainted = (np.asarray(images) for images in model.inpaint(batch))
    figure = inpainting_grid(batch["view_1"].numpy(), masked, inpainted)
    save_figure(figure, run.figures / "inpainting.png")
