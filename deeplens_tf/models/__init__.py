"""Encoders, the self-supervised models around them, and the model that fine-tuning trains."""

import inspect
from collections.abc import Callable
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
from deeplens_tf.models.raw_model import RawImageModel
from deeplens_tf.models.registered_encoder import RegisteredEncoder, register_encoder
from deeplens_tf.models.registered_method import register_method
from deeplens_tf.models.resnet import ResNet50
from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.models.simsiam import SimSiamModel
from deeplens_tf.models.variable_rates import rate_factors
from deeplens_tf.models.vit import VARIANTS, VisionTransformer
from deeplens_tf.models.warm_up import WarmUpSchedule
from deeplens_tf.models.weight_decay import SelectiveAdamW, SelectiveSGD
from deeplens_tf.registry import encoders

ENCODERS = tuple(encoders.built_in)
ENCODER_CLASSES = (VisionTransformer, OriginalViT, ResNet50, RegisteredEncoder)

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
    "RawImageModel",
    "RegisteredEncoder",
    "ResNet50",
    "SelectiveAdamW",
    "SelectiveSGD",
    "SelfSupervisedModel",
    "SimSiamModel",
    "TwinModel",
    "VisionTransformer",
    "WarmUpSchedule",
    "batch_norm_mlp",
    "build_encoder",
    "classification_head",
    "decoder_for",
    "feature_std",
    "linear_probe",
    "projection_head",
    "rate_factors",
    "register_encoder",
    "register_method",
]


def build_encoder(name: str, image_shape: tuple[int, int, int], **options: Any) -> keras.Model:
    """Build an encoder, image -> feature vector, with random weights.

    Args:
        name: "vit_nano", "vit_tiny", "vit_small", "vit_b32_original", "resnet50", or one that
            `register_encoder` has made known.
        image_shape: (height, width, bands).
        **options: options that differ from those of the name; see `VisionTransformer` and
            `ResNet50`, or the registered function.

    Raises:
        ValueError: an unknown name, an option that the encoder does not have, or one that does
            not fit the image.
    """
    entry = encoders.entry(name)
    checked = entry.checked(options)
    if name in encoders.built_in:
        encoder = entry.build(image_shape=image_shape, **checked, name=name)
    else:
        encoder = RegisteredEncoder(name, image_shape, checked, name=name)
    encoder.build()
    return encoder


def _variant(variant: str, kind: type[keras.Model]) -> Callable[..., keras.Model]:
    """Return the function that builds a named size of a Vision Transformer."""
    sizes = VARIANTS[variant]
    image_shape, *options = inspect.signature(VisionTransformer).parameters.values()
    options = [each.replace(default=sizes.get(each.name, each.default)) for each in options]

    def build(image_shape: tuple[int, int, int], **options: Any) -> keras.Model:
        return kind(image_shape, **{**VARIANTS[variant], **options})

    build.__signature__ = inspect.Signature([image_shape, *options])  # type: ignore[attr-defined]
    return build


for _name in VARIANTS:
    _kind = OriginalViT if _name == "vit_b32_original" else VisionTransformer
    encoders.register(_name, _variant(_name, _kind))
encoders.register("resnet50", ResNet50)
