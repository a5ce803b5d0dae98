"""Whether XLA compiles the steps of a training: chosen where it is left open."""

from dataclasses import replace

import keras

from deeplens_tf.config import Config
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.models.encoders import has_convolutions
from deeplens_tf.terminal import print_lines

# Compiling `vit_nano` takes as long as XLA saves in a training on so many images.
WORTHWHILE_IMAGES = 20_000


def with_compilation(
    config: Config, encoder: keras.Model, images: int, distribution: Distribution
) -> Config:
    """Return the configuration with a `train.jit_compile` that is not null.

    The choice follows from the command and the data, not from timing, and is stored with the run.
    XLA rounds in another way, so results with and without it differ in their last digits.

    Args:
        config: of the run.
        encoder: that is trained.
        images: number that an epoch trains on.
        distribution: devices to use.
    """
    compiled = config.train.jit_compile
    if compiled is None:
        against = _reason_against(encoder, images * config.train.epochs, distribution)
        compiled = against is None
        if against and distribution.is_chief:
            print_lines(f"train.jit_compile: false, since {against}")
    return replace(config, train=replace(config.train, jit_compile=compiled))


def _reason_against(encoder: keras.Model, images: int, distribution: Distribution) -> str | None:
    if not distribution.can_compile:
        return "XLA cannot compile replicas that communicate"
    if has_convolutions(encoder) and not distribution.has_gpu:
        return f"XLA is slow at the convolutions of {encoder.name} on a CPU"
    if images < WORTHWHILE_IMAGES:
        return f"compiling takes longer than XLA saves on {images:,} images (epochs included)"
    return None
