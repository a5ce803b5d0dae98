"""The encoders in PyTorch, as its users write them; parameters are named as `weights.py` does."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_NORM_EPSILON = 1e-6
KERAS_NORM: dict[str, float] = {"eps": 1e-3, "momentum": 0.01}  # Keras's defaults
RESNET_NORM: dict[str, float] = {"eps": 1.001e-5, "momentum": 0.01}  # of keras.applications
RESNET_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width, blocks


class Block(nn.Module):
    """Pre-norm block with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, LAYER_NORM_EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, LAYER_NORM_EPSILON)
        self.mlp_in = nn.Linear(width, mlp_width)
        self.mlp_out = nn.Linear(mlp_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the transformed tokens, (batch, tokens, width)."""
        batch, count, width = tokens.shape
        split = (batch, count, 3, self.heads, width // self.heads)
        query, key, value = self.qkv(self.attention_norm(tokens)).view(split).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(tokens))))


class VisionTransformer(nn.Module):
    """Vision Transformer with average pooling, or with a class token and the original's top."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        patch, width, top = sizes["patch_size"], sizes["width"], sizes["top"]
        tokens = (sizes["side"] // patch) ** 2 + bool(top)
        block = (width, sizes["heads"], sizes["mlp_width"])
        self.embedding = nn.Conv2d(sizes["bands"], width, patch, patch)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if top else None
        self.blocks = nn.Sequential(*[Block(*block) for _ in range(sizes["depth"])])
        self.norm = nn.LayerNorm(width, LAYER_NORM_EPSILON)
        self.top = _original_top(width, *top) if top else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, (batch, features)."""
        tokens = self.embedding(images).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = self.norm(self.blocks(tokens + self.positions))
        return tokens.mean(1) if self.top is None else self.top(tokens[:, 0])


class Bottleneck(nn.Module):
    """Block of a ResNet50 (arXiv:1512.03385, figure 5), its stride in the first convolution."""

    def __init__(self, inputs: int, width: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        sizes = ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*size, stride=1 if i else stride, padding=size[-1] // 2)
            for i, size in enumerate(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size[1], **RESNET_NORM) for size in sizes)
        self.shortcut = nn.Conv2d(inputs, 4 * width, 1, stride) if shortcut else None
        self.shortcut_norm = nn.BatchNorm2d(4 * width, **RESNET_NORM) if shortcut else None

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, 4 width, rows, columns)."""
        kept = images
        if self.shortcut is not None and self.shortcut_norm is not None:
            kept = self.shortcut_norm(self.shortcut(images))
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            images = norm(convolution(images))
            images = functional.relu(images if i < 2 else images + kept)
        return images


class ResNet50(nn.Module):
    """ResNet50 with average pooling and the original's top."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(sizes["bands"], 64, 7, 2, padding=3)
        self.norm = nn.BatchNorm2d(64, **RESNET_NORM)
        blocks, inputs = [], 64
        for stage, (width, count) in enumerate(RESNET_STAGES):
            for i in range(count):
                blocks.append(Bottleneck(inputs, width, 1 if i or not stage else 2, i == 0))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        layers: list[nn.Module] = []
        for width in sizes["top"]:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.BatchNorm1d(width, **KERAS_NORM)]
            inputs = width
        self.top = _named(layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, (batch, features)."""
        images = functional.max_pool2d(functional.relu(self.norm(self.stem(images))), 3, 2, 1)
        return self.top(self.blocks(images).mean((2, 3)))


def _original_top(inputs: int, *widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        activation = nn.GELU() if i else nn.Tanh()
        layers += [nn.Linear(inputs, width), activation, nn.BatchNorm1d(width, **KERAS_NORM)]
        inputs = width
    return _named(layers)


def _named(layers: list[nn.Module]) -> nn.Sequential:
    """Return the layers in sequence, named by kind and number: dense_0, activation_0, norm_0."""
    kinds = ("dense", "activation", "norm")
    named = nn.Sequential()
    for i, layer in enumerate(layers):
        named.add_module(f"{kinds[i % 3]}_{i // 3}", layer)
    return named


def build_encoder(sizes: dict[str, Any]) -> nn.Module:
    """Return the network of the sizes that `weights.sizes_of` describes."""
    return (VisionTransformer if "depth" in sizes else ResNet50)(sizes)
