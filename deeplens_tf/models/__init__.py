"""Encoders, the self-supervised models around them, and the model that fine-tuning trains."""

import inspect
from typing import Any

import keras

from deeplens_tf.models.barlow_twins import BarlowTwinsModel, TwinModel
from deeplens_tf.models.byol import BYOLModel
from deeplens_tf.models.collapse import feature_std
from deeplens_tf.models.contrastive import ContrastiveModel
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.models.heads import (
    MassHead,
    batch_norm_mlp,
    classification_head,
    linear_probe,
    projection_head,
)
from deeplens_tf.models.inpainting import InpaintingModel, decoder_for
from deeplens_tf.models.joint_embedding import JointEmbeddingModel
from deeplens_tf.models.original_vit import OriginalViT
from deeplens_tf.models.resnet import ResNet50
from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.models.simsiam import SimSiamModel
from deeplens_tf.models.vit import VARIANTS, VisionTransformer

ENCODERS = (*VARIANTS, "resnet50")
ENCODER_CLASSES = (VisionTransformer, OriginalViT, ResNet50)
_CLASSES = {"vit_b32_original": OriginalViT, "resnet50": ResNet50}

__all__ = [
    "ENCODERS",
    "BYOLModel",
    "BarlowTwinsModel",
    "ContrastiveModel",
    "DownstreamModel",
    "InpaintingModel",
    "JointEmbeddingModel",
    "MassHead",
    "OriginalViT",
    "ResNet50",
    "SelfSupervisedModel",
    "SimSiamModel",
    "TwinModel",
    "VisionTransformer",
    "batch_norm_mlp",
    "build_encoder",
    "classification_head",
    "decoder_for",
    "feature_std",
    "linear_probe",
    "projection_head",
]


def build_encoder(name: str, image_shape: tuple[int, int, int], **options: Any) -> keras.Model:
    """Build an encoder, image -> feature vector, with random weights.

    Args:
        name: one of `ENCODERS`.
        image_shape: (height, width, bands).
        **options: options that differ from those of the name; see `VisionTransformer` and
            `ResNet50`.

    Raises:
        ValueError: an unknown name, an option that the encoder does not have, or one that does
            not fit the image.
    """
    if name not in ENCODERS:
        raise ValueError(f"name must be one of {', '.join(ENCODERS)}. Received: name={name!r}")
    kind = _CLASSES.get(name, VisionTransformer)
    known = _option_names(ResNet50 if kind is ResNet50 else VisionTransformer)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(
            f"{unknown[0]} is not an option of {name}, whose options are "
            f"{', '.join(sorted(known))}. Received: {unknown[0]}={options[unknown[0]]!r}"
        )
    encoder = kind(image_shape, **{**VARIANTS.get(name, {}), **options}, name=name)
    encoder.build()
    return encoder


def _option_names(kind: type[keras.Model]) -> set[str]:
    return set(inspect.signature(kind).parameters) - {"image_shape", "kwargs"}
