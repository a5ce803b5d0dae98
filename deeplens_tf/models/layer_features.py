"""The features that a layer inside an encoder has, pooled to one vector for each image."""

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.original_vit import OriginalViT
from deeplens_tf.models.registered_encoder import RegisteredEncoder
from deeplens_tf.models.resnet import ResNet50
from deeplens_tf.models.vit import VisionTransformer


def layer_features(encoder: keras.Model, layer: str) -> keras.Model:
    """Return a model from images to the pooled output of a layer; it shares the weights.

    Args:
        encoder: one of this package or a registered one.
        layer: of a Vision Transformer `block_<i>`, whose tokens are pooled as the encoder's own,
            without its last normalisation; of ResNet50 the end of a block, such as
            `conv3_block4_out`, or `avg_pool`; of a registered network any layer. Maps are averaged
            over the image.

    Returns:
        Images (batch, height, width, bands) in [0, 1] -> (batch, dim), float32.

    Raises:
        ValueError: the encoder has no such layer.
    """
    images, outputs = _outputs(encoder)
    if layer not in outputs:
        known = f"one of {', '.join(outputs)}" if outputs else "left out: its layers have no names"
        raise ValueError(f"layer of {encoder.name} must be {known}. Received: layer={layer!r}")
    return keras.Model(images, outputs[layer])


def _outputs(encoder: keras.Model) -> tuple[KerasTensor, dict[str, KerasTensor]]:
    """Return symbolic images, and the pooled output of each layer for them."""
    transformer = encoder.transformer if isinstance(encoder, OriginalViT) else encoder
    if isinstance(transformer, VisionTransformer):
        images = keras.Input(transformer.image_shape)
        tokens = transformer.block_tokens(images)
        names = [block.name for block in transformer.blocks]
        return images, dict(zip(names, map(transformer.pool, tokens), strict=True))
    network = encoder.network if isinstance(encoder, RegisteredEncoder) else encoder
    network = encoder.backbone if isinstance(encoder, ResNet50) else network
    if not getattr(network, "inputs", None):  # a subclass, whose call is code
        return None, {}
    ends = ("_out", "avg_pool") if isinstance(encoder, ResNet50) else ("",)
    layers = [each for each in network.layers if each.name.endswith(ends)]
    found = {each.name: _pooled(each.output) for each in layers if _is_output(each)}
    return network.inputs[0], found


def _is_output(layer: keras.layers.Layer) -> bool:
    """Return whether a layer of a functional network gives vectors, tokens or maps."""
    output = getattr(layer, "output", None)
    is_input = isinstance(layer, keras.layers.InputLayer)
    return not is_input and isinstance(output, KerasTensor) and 2 <= len(output.shape) <= 4


def _pooled(output: KerasTensor) -> KerasTensor:
    """Return the mean over all axes but those of the images and of the channels."""
    axes = tuple(range(1, len(output.shape) - 1))
    return ops.cast(ops.mean(output, axis=axes) if axes else output, "float32")
