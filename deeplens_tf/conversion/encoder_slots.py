"""Maps each encoder variable to its array in a Keras 2 weight file."""

from dataclasses import dataclass
from math import prod

import keras

from deeplens_tf.conversion.file_names import CLASS_TOKEN, POSITIONS
from deeplens_tf.models import OriginalViT, ResNet50
from deeplens_tf.models.transformer_block import TransformerBlock


@dataclass(frozen=True)
class Slot:
    """A variable, and the shape of its array in a Keras 2 file."""

    variable: keras.Variable
    shape: tuple[int, ...]


Slots = dict[str, Slot]


def encoder_slots(encoder: keras.Model) -> Slots:
    """Return every slot of an encoder by its name.

    Args:
        encoder: a built `OriginalViT` or `ResNet50`.
    """
    return _vit(encoder) if isinstance(encoder, OriginalViT) else _resnet(encoder)


def _vit(encoder: OriginalViT) -> Slots:
    embedding, top = encoder.embedding, encoder.top
    slots = _layer("embedding", embedding.projection)
    slots[CLASS_TOKEN] = _same_shape(embedding.token)
    slots[POSITIONS] = _same_shape(embedding.positions)
    for i, block in enumerate(encoder.blocks):
        slots |= _block(f"encoderblock_{i}", block)
    slots |= _layer("encoder_norm", encoder.norm)
    slots |= _layer("pre_logits", top.get_layer("representation"))
    return slots | _numbered(top.layers[1:])


def _block(name: str, block: TransformerBlock) -> Slots:
    attention = block.attention
    slots = _layer(f"{name}/LayerNorm_0", block.attention_norm)
    for part, layer in (
        ("query", attention.query_dense),
        ("key", attention.key_dense),
        ("value", attention.value_dense),
    ):
        slots[f"{name}/{part}/kernel"] = _merged_heads(layer.kernel, last=True)
        slots[f"{name}/{part}/bias"] = _merged_heads(layer.bias, last=True)
    slots[f"{name}/out/kernel"] = _merged_heads(attention.output_dense.kernel, last=False)
    slots[f"{name}/out/bias"] = _same_shape(attention.output_dense.bias)
    slots |= _layer(f"{name}/LayerNorm_2", block.mlp_norm)
    return (
        slots | _layer(f"{name}/Dense_0", block.mlp_in) | _layer(f"{name}/Dense_1", block.mlp_out)
    )


def _resnet(encoder: ResNet50) -> Slots:
    slots: Slots = {}
    for layer in encoder.backbone.layers:
        slots |= _layer(layer.name, layer)
    return slots | _numbered(encoder.top.layers)


def _numbered(layers: list[keras.layers.Layer]) -> Slots:
    """Return the slots of the Dense and BatchNormalization layers, which Keras 2 numbered."""
    slots: Slots = {}
    for kind, name in (
        (keras.layers.Dense, "dense"),
        (keras.layers.BatchNormalization, "batch_normalization"),
    ):
        for i, layer in enumerate(layer for layer in layers if isinstance(layer, kind)):
            slots |= _layer(f"{name}[{i}]", layer)
    return slots


def _layer(name: str, layer: keras.layers.Layer) -> Slots:
    return {f"{name}/{variable.name}": _same_shape(variable) for variable in layer.weights}


def _same_shape(variable: keras.Variable) -> Slot:
    return Slot(variable, tuple(variable.shape))


def _merged_heads(variable: keras.Variable, last: bool) -> Slot:
    """Return a slot whose axes for heads and head width are one axis, as in the original."""
    shape = tuple(variable.shape)
    merged = (*shape[:-2], prod(shape[-2:])) if last else (prod(shape[:2]), *shape[2:])
    return Slot(variable, merged)
