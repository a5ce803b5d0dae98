"""Encoders, the self-supervised models around them and the model that fine-tuning trains."""

import inspect
from typing import Any

import keras

from deeplens_tf.errors import RequestError
from deeplens_tf.models.barlow_twins import BarlowTwinsModel
from deeplens_tf.models.byol import BYOLModel
from deeplens_tf.models.contrastive import ContrastiveModel
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.models.heads import MassHead
from deeplens_tf.models.inpainting import InpaintingModel
from deeplens_tf.models.resnet import ResNet50
from deeplens_tf.models.simsiam import SimSiamModel
from deeplens_tf.models.vit import VARIANTS, VisionTransformer

ENCODERS = (*VARIANTS, "resnet50")

__all__ = [
    "ENCODERS",
    "BYOLModel",
    "BarlowTwinsModel",
    "ContrastiveModel",
    "DownstreamModel",
    "InpaintingModel",
    "MassHead",
    "ResNet50",
    "SimSiamModel",
    "VisionTransformer",
    "build_encoder",
]


def build_encoder(name: str, image_shape: tuple[int, int, int], **options: Any) -> keras.Model:
    """Build an encoder, image -> feature vector, with fresh weights.

    Args:
        name: one of `ENCODERS`.
        image_shape: (height, width, bands).
        **options: what differs from the name's own; see `VisionTransformer` and `ResNet50`.

    Raises:
        RequestError: an unknown name, an option the encoder does not have, or one that does
            not fit the image.
    """
    if name not in ENCODERS:
        raise RequestError(f"unknown encoder {name!r}: one of {', '.join(ENCODERS)}")
    kind = ResNet50 if name == "resnet50" else VisionTransformer
    known = set(inspect.signature(kind).parameters) - {"image_shape", "kwargs"}
    wrong = sorted(set(options) - known)
    if wrong:
        raise RequestError(f"{name} has no option {wrong[0]}: it has {', '.join(sorted(known))}")
    encoder = kind(image_shape, **{**VARIANTS.get(name, {}), **options}, name=name)
    encoder.build()
    return encoder
