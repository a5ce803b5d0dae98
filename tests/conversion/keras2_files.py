"""Writes `.h5` files in the layout of Keras 2's `save_weights`, with h5py."""

import h5py
import numpy as np

IMAGE_SHAPE = (16, 16, 2)
PATCH, WIDTH, DEPTH, HEADS, MLP_WIDTH = 8, 12, 2, 3, 20


def write(path, layers):
    """Write layer -> name -> array: one group per layer, with the names as an attribute."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group[name] = array
    return path


def vit_layers(seed=0, first_number=0):
    """A small copy of the original's transformer: its body, and its top with numbered layers."""
    return {"model": vit_body(seed), "modified_vit_top": vit_top(seed, first_number)}


def vit_body(seed):
    tokens = 1 + (IMAGE_SHAPE[0] // PATCH) ** 2
    shapes = {
        "embedding/kernel:0": (PATCH, PATCH, IMAGE_SHAPE[2], WIDTH),
        "embedding/bias:0": (WIDTH,),
        "dummy_input/dummy_input:0": (1, 1, WIDTH),
        "Transformer/posembed_input/pos_embedding:0": (1, tokens, WIDTH),
    }
    for i in range(DEPTH):
        shapes |= block_shapes(f"Transformer/encoderblock_{i}")
    shapes |= norm_shapes("Transformer/encoder_norm") | dense_shapes("pre_logits", WIDTH, WIDTH)
    return drawn(shapes, seed)


def block_shapes(name):
    shapes = {}
    for part in ("query", "key", "value", "out"):
        shapes |= dense_shapes(f"{name}/MultiHeadDotProductAttention_1/{part}", WIDTH, WIDTH)
    shapes |= dense_shapes(f"{name}/Dense_0", WIDTH, MLP_WIDTH)
    shapes |= dense_shapes(f"{name}/Dense_1", MLP_WIDTH, WIDTH)
    return shapes | norm_shapes(f"{name}/LayerNorm_0") | norm_shapes(f"{name}/LayerNorm_2")


def vit_top(seed, first):
    """Trained arrays first, then the moving statistics, as Keras 2 writes a nested model."""
    norms = [batch_norm_name(first + i) for i in range(3)]
    denses = [f"dense_{first + i}" if first + i else "dense" for i in range(2)]
    widths = (WIDTH, 512, 256)
    shapes = {}
    for i in range(3):
        shapes |= norm_shapes(norms[i], widths[i])
        if i < 2:
            shapes |= dense_shapes(denses[i], widths[i], widths[i + 1])
    for name, width in zip(norms, widths, strict=True):
        shapes |= moving_shapes(name, width)
    return drawn(shapes, seed + 1)


def resnet_layers(backbone, width, seed=0):
    """Keras's ResNet50, followed by the original's numbered layers."""
    layers = resnet_backbone(backbone)
    sizes = [(2048, 8 * width), (8 * width, 4 * width), (4 * width, width)]
    for i, (inputs, outputs) in enumerate(sizes):
        dense, norm = f"dense_{i + 9}", batch_norm_name(i + 9)
        layers[dense] = drawn(dense_shapes(dense, inputs, outputs), seed + i)
        shapes = norm_shapes(norm, outputs) | moving_shapes(norm, outputs)
        layers[norm] = drawn(shapes, seed + i)
        layers[f"dropout_{i + 9}"] = {}
    return layers


def plain_resnet_layers(backbone, width):
    """The original's network for regression: ResNet50 and one numbered Dense."""
    return resnet_backbone(backbone) | {"dense_3": drawn(dense_shapes("dense_3", 2048, width), 0)}


def resnet_backbone(backbone):
    return {"resnet50": {f"{path}:0": value for path, value in backbone.items()}}


def batch_norm_name(number):
    return f"batch_normalization_{number}" if number else "batch_normalization"


def dense_shapes(name, inputs, outputs):
    return {f"{name}/kernel:0": (inputs, outputs), f"{name}/bias:0": (outputs,)}


def norm_shapes(name, width=WIDTH):
    return {f"{name}/gamma:0": (width,), f"{name}/beta:0": (width,)}


def moving_shapes(name, width):
    return {f"{name}/moving_mean:0": (width,), f"{name}/moving_variance:0": (width,)}


def drawn(shapes, seed):
    generator = np.random.default_rng(seed)
    return {
        name: generator.uniform(0.05, 0.4, shape).astype("float32")
        for name, shape in shapes.items()
    }
