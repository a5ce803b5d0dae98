"""Thumbnails of the images of embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deeplens_tf.errors import DataError
from deeplens_tf.figures.projector_files import thumbnails_of
from deeplens_tf.inference.embedded_images import Image, embedded_images

SIDE = 32  # pixels
NO_IMAGE = 200  # gray


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of images.

    Attributes:
        pixels: shape (images, SIDE, SIDE, 3), gray for an image that cannot be read.
        shown: shape (images,), which are pictures.
    """

    pixels: NDArray[np.uint8]
    shown: NDArray[np.bool_]


def read_thumbnails(about: Mapping[str, Any], files: Sequence[str]) -> Thumbnails:
    """Read images again, one at a time, with a progress bar on a terminal.

    Each is drawn as by `search`: its central square, from its faintest to its brightest pixel.
    """
    of_name: dict[str, NDArray[np.uint8]] = {}
    try:
        images = embedded_images(about, files)
        for name, image in tqdm(images, total=len(files), unit="image", disable=None):
            square = _square(image)
            if np.isfinite(square).any():
                of_name[name] = thumbnails_of([_filled(square)], SIDE)[0]
    except DataError:  # the folder has changed since
        of_name = {}
    shown = np.array([file in of_name for file in files], bool)
    pixels = np.full((len(files), SIDE, SIDE, 3), NO_IMAGE, np.uint8)
    for place in np.flatnonzero(shown).tolist():
        pixels[place] = of_name[files[place]]
    return Thumbnails(pixels, shown)


def _square(image: Image) -> Image:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _filled(image: Image) -> Image:
    """Return an image whose pixels without a value are as its faintest one."""
    finite = np.isfinite(image)
    return image if finite.all() else np.where(finite, image, image[finite].min())
