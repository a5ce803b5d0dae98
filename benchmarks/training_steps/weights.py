"""What the peer needs to build the same network: its sizes, and its weights by the peer's names."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

    from deeplens_tf.models.self_supervised import SelfSupervisedModel

Weights = dict[str, np.ndarray]


def sizes_of(encoder: "keras.Model") -> dict[str, Any]:
    """Return the sizes of an encoder; `top` are the widths of the layers on its features."""
    side, _, bands = encoder.image_shape
    options = getattr(encoder, "options", {})
    keys = ("patch_size", "width", "depth", "heads", "mlp_width")
    top = [layer.units for layer in _dense(getattr(encoder, "top", None))]
    return {"side": side, "bands": bands, "top": top} | {k: options[k] for k in keys if options}


def weights_of(model: "SelfSupervisedModel") -> Weights:
    """Return the weights in PyTorch's order, except those of norms, which are ones and zeros."""
    assert model.probe is not None
    found = {f"encoder.{key}": value for key, value in _encoder(model.encoder).items()}
    found |= _affine("probe", model.probe.kernel, model.probe.bias)
    for name in ("projector", "predictor"):
        for i, layer in enumerate(_dense(getattr(model, name))):
            bias = layer.bias if layer.use_bias else None
            found |= _affine(f"{name}.dense_{i}", layer.kernel, bias)
    return found


def multiplications(encoder: "keras.Model") -> float:
    """Return the multiplications in the matrix products of one image's way through an encoder."""
    tops = sum(np.prod(layer.kernel.shape) for layer in _dense(getattr(encoder, "top", None)))
    if hasattr(encoder, "backbone"):
        return float(tops) + sum(
            np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])
            for layer in _convolutions(encoder.backbone)
        )
    sizes = sizes_of(encoder)
    width, tokens = sizes["width"], encoder.embedding.positions.shape[1]
    block = 4 * width**2 + 2 * width * sizes["mlp_width"] + 2 * tokens * width
    embedding = sizes["patch_size"] ** 2 * sizes["bands"] * width
    return float(tops + tokens * (embedding + sizes["depth"] * block))


def _encoder(encoder: "keras.Model") -> Weights:
    found = _backbone(encoder) if hasattr(encoder, "backbone") else _transformer(encoder)
    for i, layer in enumerate(_dense(getattr(encoder, "top", None))):
        found |= _affine(f"top.dense_{i}", layer.kernel, layer.bias)
    return found


def _transformer(encoder: Any) -> Weights:
    embedding = encoder.embedding
    width = embedding.width
    found = _convolution("embedding", embedding.projection)
    found["positions"] = np.asarray(embedding.positions)
    if embedding.class_token:
        found["class_token"] = np.asarray(embedding.token)
    for i, block in enumerate(encoder.blocks):
        layers = block.attention
        parts = (layers.query_dense, layers.key_dense, layers.value_dense)
        kernel = np.concatenate([np.reshape(part.kernel, (width, width)) for part in parts], 1)
        bias = np.concatenate([np.reshape(part.bias, width) for part in parts])
        out = layers.output_dense
        found |= _affine(f"blocks.{i}.qkv", kernel, bias)
        found |= _affine(f"blocks.{i}.out", np.reshape(out.kernel, (width, width)), out.bias)
        found |= _affine(f"blocks.{i}.mlp_in", block.mlp_in.kernel, block.mlp_in.bias)
        found |= _affine(f"blocks.{i}.mlp_out", block.mlp_out.kernel, block.mlp_out.bias)
    return found


def _backbone(encoder: Any) -> Weights:
    """Return the convolutions of `keras.applications.ResNet50`, named conv2_block1_0_conv etc."""
    found: Weights = {}
    blocks: list[str] = []
    for layer in _convolutions(encoder.backbone):
        match = re.fullmatch(r"(conv\d_block\d)_(\d)_conv", layer.name)
        if match is None:
            found |= _convolution("stem", layer)
            continue
        name, number = match[1], int(match[2])
        if name not in blocks:
            blocks.append(name)
        place = f"convolutions.{number - 1}" if number else "shortcut"
        found |= _convolution(f"blocks.{blocks.index(name)}.{place}", layer)
    return found


def _dense(network: Any) -> Iterator[Any]:
    for layer in () if network is None else network.layers:
        if type(layer).__name__ == "Dense":
            yield layer


def _convolutions(network: Any) -> Iterator[Any]:
    return (layer for layer in network.layers if type(layer).__name__ == "Conv2D")


def _convolution(name: str, layer: Any) -> Weights:
    kernel = np.transpose(layer.kernel, (3, 2, 0, 1))
    return {f"{name}.weight": kernel, f"{name}.bias": np.asarray(layer.bias)}


def _affine(name: str, kernel: Any, bias: Any) -> Weights:
    found = {f"{name}.weight": np.asarray(kernel).T}
    return found if bias is None else {**found, f"{name}.bias": np.asarray(bias)}
