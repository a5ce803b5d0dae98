"""Determines the encoder, and its sizes, from the shapes of its arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

from deeplens_tf.conversion.file_names import CLASS_TOKEN, POSITIONS
from deeplens_tf.errors import RequestError
from deeplens_tf.saving.allow_list import MAX_BLOCKS

RESNET_IMAGE_SIZE = 64  # the original's images; the weights do not depend on it
HEAD_WIDTH = 64
MAX_TOP_WIDTH = 4096
Shapes = Mapping[str, tuple[int, ...]]  # slot -> shape


@dataclass(frozen=True)
class Architecture:
    """The arguments of `build_encoder`."""

    name: str
    image_shape: tuple[int, int, int]
    options: dict[str, Any]


def find_architecture(
    shapes: Shapes, image_size: int | None = None, heads: int | None = None
) -> Architecture:
    """Determine the encoder and its sizes from the shapes of its arrays.

    Args:
        shapes: slot -> shape in the file.
        image_size: pixels a side; determined by a transformer's positions, but not by the weights
            of a ResNet50.
        heads: number of attention heads of a transformer, which no shape determines. None: heads
            of width 64, like the original's.

    Raises:
        RequestError: neither encoder, a missing array, or options that contradict the file.
    """
    if "conv1_conv/kernel" in shapes:
        if heads is not None:
            raise RequestError(f"--heads {heads}: a ResNet50 has no attention heads; leave it out")
        return _resnet(shapes, image_size or RESNET_IMAGE_SIZE)
    if POSITIONS in shapes or CLASS_TOKEN in shapes:
        return _vit(shapes, image_size, heads)
    some = ", ".join(list(shapes)[:5]) or "no arrays"
    raise RequestError(f"neither the original's ViT nor its ResNet50: the file contains {some}")


def _resnet(shapes: Shapes, image_size: int) -> Architecture:
    bands = _shape(shapes, "conv1_conv/kernel", 4)[2]
    last = sum(slot.startswith("dense[") and slot.endswith("/bias") for slot in shapes) - 1
    width = _shape(shapes, f"dense[{max(last, 0)}]/bias", 1)[0]
    if width > MAX_TOP_WIDTH:
        raise RequestError(
            f"a ResNet50 with {width} features, at most {MAX_TOP_WIDTH} are converted"
        )
    options = {"top_width": width} | ({"plain_top": True} if last == 0 else {})
    return Architecture("resnet50", (image_size, image_size, bands), options)


def _vit(shapes: Shapes, image_size: int | None, heads: int | None) -> Architecture:
    patch, _, bands, width = _shape(shapes, "embedding/kernel", 4)
    patches = _shape(shapes, POSITIONS, 3)[1] - 1
    mlp_width = _shape(shapes, "encoderblock_0/Dense_0/kernel", 2)[1]
    depth = len({slot.split("/")[0] for slot in shapes if slot.startswith("encoderblock_")})
    side = isqrt(max(patches, 0)) * patch
    if (side // patch) ** 2 != patches or side == 0:
        raise RequestError(f"{POSITIONS}: {patches} patches do not form a square image")
    if image_size not in (None, side):
        raise RequestError(f"--image-size {image_size}: the file has positions for {side} pixels")
    # A network of these sizes is only built if the file contains enough numbers for it.
    if depth * width * (4 * width + 2 * mlp_width) > sum(prod(shape) for shape in shapes.values()):
        raise RequestError(f"too few numbers for {depth} blocks of width {width}")
    if depth > MAX_BLOCKS:
        raise RequestError(f"{depth} blocks, at most {MAX_BLOCKS} are converted")
    options = {
        "patch_size": patch,
        "width": width,
        "depth": depth,
        "heads": heads or max(width // HEAD_WIDTH, 1),
        "mlp_width": mlp_width,
    }
    return Architecture("vit_b32_original", (side, side, bands), options)


def _shape(shapes: Shapes, slot: str, axes: int) -> tuple[int, ...]:
    if slot not in shapes:
        raise RequestError(f"the file lacks {slot}")
    if len(shapes[slot]) != axes or not all(shapes[slot]):
        raise RequestError(f"{slot} must have {axes} non-empty axes. Received: {shapes[slot]}")
    return shapes[slot]
