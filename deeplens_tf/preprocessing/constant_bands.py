"""Bands without content: an alpha channel in all images, a missing exposure in one of them."""

from collections.abc import Collection, Mapping

import numpy as np

from deeplens_tf.errors import NoSignal


def constant_bands(pixels: np.ndarray) -> dict[int, float]:
    """Return the bands in which every pixel has the same value, or none has one, and this value.

    Args:
        pixels: (height, width, bands), those that are kept of an image.

    Raises:
        NoSignal: every one of several bands is constant.
    """
    bands = pixels.shape[-1]
    if bands == 1:  # scaling says what is wrong with a constant image
        return {}
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    empty = np.isnan(pixels).all(axis=(0, 1))
    constant = np.flatnonzero((low == high) | empty).tolist()
    if len(constant) == bands:
        raise NoSignal(f"constant in each of its {bands} bands")
    return {band: float(pixels[0, 0, band]) for band in constant}


def require_content(bands: int, constant: Mapping[int, float], left_out: Collection[int]) -> None:
    """Refuse an image without content in a band that other images use.

    Args:
        bands: number of bands of the image.
        constant: its constant bands, see `constant_bands`.
        left_out: bands that are constant in every image.

    Raises:
        NoSignal: naming the first such band, counted from 1.
    """
    if missing := sorted(constant.keys() - left_out):
        raise NoSignal(
            f"band {missing[0] + 1} of {bands} is constant, value {constant[missing[0]]:g}, and "
            "not in other images: no exposure?"
        )


def used_bands(bands: int, left_out: Collection[int]) -> list[int]:
    """Return the positions of the bands that are not left out."""
    return [band for band in range(bands) if band not in left_out]
