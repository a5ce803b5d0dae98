"""Bands without content: an alpha channel in all images, a missing exposure in one of them."""

import numpy as np

from deeplens_tf.errors import NoSignal


def constant_bands(pixels: np.ndarray) -> frozenset[int]:
    """Return the bands in which every pixel has the same value, or none has a value.

    Args:
        pixels: (height, width, bands), those that are kept of an image.

    Raises:
        NoSignal: every one of several bands is constant.
    """
    bands = pixels.shape[-1]
    if bands == 1:  # scaling says what is wrong with a constant image
        return frozenset()
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    empty = np.isnan(pixels).all(axis=(0, 1))
    constant = frozenset(np.flatnonzero((low == high) | empty).tolist())
    if len(constant) == bands:
        raise NoSignal(f"constant in each of its {bands} bands")
    return constant


def require_content(pixels: np.ndarray, constant: frozenset[int], left_out: frozenset[int]) -> None:
    """Refuse an image without content in a band that other images use.

    Args:
        pixels: (height, width, bands), those that are kept of an image.
        constant: its constant bands.
        left_out: bands that are constant in every image.

    Raises:
        NoSignal: naming the first such band, counted from 1.
    """
    if missing := sorted(constant - left_out):
        band, bands = missing[0], pixels.shape[-1]
        value = pixels[0, 0, band]
        raise NoSignal(
            f"band {band + 1} of {bands} is constant, value {value:g}, and not in other images: "
            "no exposure?"
        )


def used_bands(bands: int, left_out: frozenset[int]) -> list[int]:
    """Return the positions of the bands that are not left out."""
    return [band for band in range(bands) if band not in left_out]
