"""From the configuration to a self-supervised model around an encoder."""

from collections.abc import Callable
from typing import TypeAlias

import keras

from deeplens_tf.config import PretrainConfig
from deeplens_tf.configuration_keys import configuration_keys
from deeplens_tf.models import (
    BarlowTwinsModel,
    BYOLModel,
    ContrastiveModel,
    InpaintingModel,
    SimSiamModel,
    batch_norm_mlp,
    decoder_for,
    linear_probe,
    projection_head,
)
from deeplens_tf.models.self_supervised import SelfSupervisedModel

Probe: TypeAlias = keras.layers.Layer | None
Builder: TypeAlias = Callable[[PretrainConfig, keras.Model, Probe, int], SelfSupervisedModel]


def build_method(
    config: PretrainConfig, encoder: keras.Model, classes: int, total_steps: int
) -> SelfSupervisedModel:
    """Build the configured method around `encoder`.

    Args:
        config: the method and its settings.
        encoder: built model, image -> features.
        classes: number of classes of the online probe; 0 for no probe.
        total_steps: optimiser steps of the whole run, for schedules.

    Raises:
        RequestError: the method does not work with that encoder, or a setting is wrong.
    """
    probe = linear_probe(classes) if classes else None
    with configuration_keys():
        return METHODS[config.method](config, encoder, probe, total_steps)


def _contrastive(
    config: PretrainConfig, encoder: keras.Model, probe: Probe, total_steps: int
) -> SelfSupervisedModel:
    projector = projection_head(config.projection_width)
    return ContrastiveModel(encoder, projector, config.temperature, probe, name="contrastive")


def _byol(
    config: PretrainConfig, encoder: keras.Model, probe: Probe, total_steps: int
) -> SelfSupervisedModel:
    widths = (config.byol.hidden_width, config.projection_width)
    projector, predictor = (batch_norm_mlp(widths, name) for name in ("projector", "predictor"))
    steps = total_steps if config.byol.schedule == "cosine" else None
    return BYOLModel(encoder, projector, predictor, config.byol.beta, steps, probe, name="byol")


def _twin(
    config: PretrainConfig, encoder: keras.Model, probe: Probe, total_steps: int
) -> SelfSupervisedModel:
    # Three layers of one width, as in the paper.
    projector = batch_norm_mlp((config.projection_width,) * 3, "projector")
    weight = config.twin.off_diagonal_weight
    return BarlowTwinsModel(encoder, projector, weight, probe, name="twin")


def _simsiam(
    config: PretrainConfig, encoder: keras.Model, probe: Probe, total_steps: int
) -> SelfSupervisedModel:
    width = config.projection_width
    # The projector of the paper: three layers, with a BatchNorm after the last one too.
    projector = batch_norm_mlp((width,) * 3, "projector", norm_output=True)
    predictor = batch_norm_mlp((config.simsiam.predictor_width, width), "predictor")
    return SimSiamModel(encoder, projector, predictor, probe, name="simsiam")


def _inpainting(
    config: PretrainConfig, encoder: keras.Model, probe: Probe, total_steps: int
) -> SelfSupervisedModel:
    settings = config.inpainting
    decoder = decoder_for(
        encoder, settings.decoder_width, settings.decoder_depth, settings.decoder_heads
    )
    return InpaintingModel(encoder, decoder, settings.mask_ratio, probe, name="inpainting")


METHODS: dict[str, Builder] = {
    "contrastive": _contrastive,
    "byol": _byol,
    "twin": _twin,
    "simsiam": _simsiam,
    "inpainting": _inpainting,
}
