"""From the configuration to a self-supervised model around an encoder."""

from dataclasses import is_dataclass
from typing import Any

import keras

from deeplens_tf.config import PretrainConfig
from deeplens_tf.configuration_keys import configuration_keys
from deeplens_tf.errors import RequestError
from deeplens_tf.models import linear_probe
from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.registry import methods

# Keys of `pretrain` for each method that has them.
SHARED = ("temperature", "projection_width", "keep_tokens")


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
    entry = methods.entry(config.method)
    settings = method_settings(config)
    given = {"encoder": encoder, "probe": probe, "total_steps": total_steps}
    try:
        with configuration_keys():
            return entry.build(**given, **settings)
    except ValueError as error:
        if entry.name in methods.built_in:
            raise
        raise RequestError(f"pretrain.method {entry.name} cannot be built: {error}") from error


def method_settings(config: PretrainConfig) -> dict[str, Any]:
    """Return the method's settings: the shared ones that it has, its section, its options.

    They do not include `positives` and `negatives`, which the batches follow.

    Raises:
        RequestError: a wrong option, or one that has a key of its own.
    """
    entry = methods.entry(config.method)
    if config.keep_tokens < 1 and "keep_tokens" not in entry.options:
        raise RequestError(
            f"pretrain.keep_tokens must be 1.0 for pretrain.method={entry.name}, which does not "
            f"mask two views. Received: pretrain.keep_tokens={config.keep_tokens}"
        )
    if config.positives == "object" and entry.name == "inpainting":
        raise RequestError(
            "pretrain.positives must be image for pretrain.method=inpainting, which makes one view "
            "of an image. Received: pretrain.positives=object"
        )
    if config.negatives == "neighbours" and entry.name != "contrastive":
        raise RequestError(
            f"pretrain.negatives must be random for pretrain.method={entry.name}; only contrastive "
            "takes negatives from its batch. Received: pretrain.negatives=neighbours"
        )
    settings = {key: getattr(config, key) for key in SHARED if key in entry.options}
    section = getattr(config, entry.name, None)
    own = vars(section) if is_dataclass(section) else {}
    for key in config.options.keys() & (settings.keys() | own.keys()):
        place = f"{entry.name}.{key}" if key in own else key
        raise RequestError(f"pretrain.options.{key}: set pretrain.{place} instead")
    settings |= own
    return settings | entry.checked(config.options, "pretrain.options.", settings)
