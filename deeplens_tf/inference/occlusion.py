"""Occlusion maps: how the output of a network changes where a part of the image is covered.

Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.inference.image_maps import ImageMaps, joined, prepared_images
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.probes.outputs import finite_outputs

Fill = Literal["median", "minimum"]
Floats = NDArray[np.floating]
FILLS: dict[str, Callable[..., Floats]] = {"median": np.median, "minimum": np.min}

COPIES_AT_ONCE = 256
COPIED_VALUES_AT_ONCE = 2**24  # of covered copies: 64 MiB
PATCHES_PER_SIDE = 8


class Cover(NamedTuple):
    """What covers a part of an image.

    Attributes:
        patch: side of the covered square, in pixels.
        stride: from one place of it to the next, in pixels.
        fill: "median" or "minimum": that of each band of the image is put there.
    """

    patch: int
    stride: int
    fill: Fill


def cover_for(
    image_shape: tuple[int, ...],
    patch: int | None = None,
    stride: int | None = None,
    fill: Fill = "median",
) -> Cover:
    """Return the cover for images of a shape (height, width, bands), see `occlusion_maps`.

    Raises:
        ValueError: an argument that is none of those there.
    """
    shorter = min(image_shape[:2])
    patch = max(1, shorter // PATCHES_PER_SIDE) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if fill not in FILLS:
        raise ValueError(f"fill must be {' or '.join(FILLS)}. Received: fill={fill!r:.60}")
    if not 1 <= patch <= shorter:
        raise ValueError(f"patch must be from 1 to {shorter} pixels. Received: patch={patch}")
    if not 1 <= stride <= patch:  # else a pixel would never be covered
        raise ValueError(f"stride must be from 1 to patch={patch}. Received: stride={stride}")
    return Cover(patch, stride, fill)


def occlusion_maps(
    network: keras.Model,
    images: ArrayLike,
    *,
    patch: int | None = None,
    stride: int | None = None,
    fill: Fill = "median",
) -> ImageMaps:
    """Return how much the output of a network changes where a patch of the image is covered.

    The change is, by what the network is:

    - an encoder: 1 - cosine of the angle between the features with and without the cover;
    - a classifier: the probability of the class that it predicts for the whole image, minus that
      probability with the cover; negative where the cover raises it;
    - a regression: the prediction with the cover minus that without, in the unit of its target's
      errors (dex of a logarithm).

    Args:
        network: any encoder, or a fine-tuned model.
        images: shape (n, height, width, bands), values in [0, 1], as the network takes them;
            `encoder.preprocessing.apply(raw_images)` makes them of raw ones.
        patch: side of the square that is covered, in pixels; None for an eighth of the image's
            shorter side.
        stride: from one place of the cover to the next, in pixels, at most `patch`; None for half
            of it. The last places are at the border, so that each pixel is covered at least once.
        fill: what is put there of each band, its "median" or its "minimum" over the image.

    Returns:
        `grid`, the change for each place of the cover, and `pixels`, for each pixel the mean over
        the places that cover it.

    Raises:
        ValueError: images that the network does not take, a cover that does not fit them, or
            outputs that are not finite, or features that are all zero.
    """
    array = prepared_images(network, images)
    cover = cover_for(array.shape[1:], patch, stride, fill)
    return joined([_map_of(network, image, cover) for image in array])


def _map_of(network: keras.Model, image: NDArray[np.float32], cover: Cover) -> ImageMaps:
    """Return the map of one image (height, width, bands)."""
    height, width, _ = image.shape
    tops, lefts = _places(height, cover), _places(width, cover)
    corners = [(height, width), *((top, left) for top in tops for left in lefts)]
    outputs = _outputs(network, image, corners, cover)
    changes = _changes(network, outputs[0], outputs[1:])  # the first cover is beside the image
    grid = changes.reshape(len(tops), len(lefts))
    pixels = _on_pixels(grid, _covers(tops, height, cover), _covers(lefts, width, cover))
    return ImageMaps(*(each[np.newaxis].astype(np.float32) for each in (grid, pixels)))


def _places(side: int, cover: Cover) -> list[int]:
    """Return where covers begin along a side; the last one ends with it."""
    last = side - cover.patch
    places = list(range(0, last + 1, cover.stride))
    return places if places[-1] == last else [*places, last]


def _outputs(
    network: keras.Model,
    image: NDArray[np.float32],
    corners: list[tuple[int, int]],
    cover: Cover,
) -> NDArray[np.float64]:
    """Return the outputs for the image with each cover, (corners, dim), some at a time."""
    at_once = max(1, min(COPIES_AT_ONCE, COPIED_VALUES_AT_ONCE // image.size))
    parts = (corners[i : i + at_once] for i in range(0, len(corners), at_once))
    found = [network(_covered(image, part, cover), training=False) for part in parts]
    arrays = [keras.ops.convert_to_numpy(outputs) for outputs in found]
    return finite_outputs(np.concatenate(arrays)).astype(np.float64)


def _covered(
    image: NDArray[np.float32], corners: list[tuple[int, int]], cover: Cover
) -> NDArray[np.float32]:
    """Return a copy of the image for each corner of a cover."""
    value, side = FILLS[cover.fill](image, axis=(0, 1)), cover.patch
    copies = np.repeat(image[np.newaxis], len(corners), axis=0)
    for copy, (top, left) in zip(copies, corners, strict=True):
        copy[top : top + side, left : left + side] = value
    return copies


def _changes(network: keras.Model, whole: Floats, covered: Floats) -> Floats:
    """Return the change of each output (n, dim) from that of the whole image, (dim,)."""
    if not isinstance(network, DownstreamModel):
        return _one_minus_cosine(whole, covered)
    if network.class_names:
        predicted = whole.argmax()
        return whole[predicted] - covered[:, predicted]
    return covered[:, 0] - whole[0]


def _one_minus_cosine(whole: Floats, covered: Floats) -> Floats:
    lengths = np.linalg.norm(covered, axis=1) * np.linalg.norm(whole)
    if not lengths.all():
        raise ValueError("the features are all zero, so that no angle between them is defined")
    return 1 - covered @ whole / lengths


def _on_pixels(grid: Floats, rows: Floats, columns: Floats) -> Floats:
    """Return for each pixel the mean over the places that cover it, (height, width)."""
    counts = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    return rows.T @ grid @ columns / counts


def _covers(places: list[int], side: int, cover: Cover) -> Floats:
    """Return 1 where the cover at a place, a row, is on a line of pixels, a column."""
    distance = np.arange(side) - np.array(places)[:, np.newaxis]
    return ((distance >= 0) & (distance < cover.patch)).astype(np.float64)
