"""Scaling of the images of an array, as those of a folder."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.constant_bands import constant_bands, require_content, used_bands
from deeplens_tf.preprocessing.data_interval import Measuring, learnt_limits
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.value_scale import ValueScale


def scaled_images(
    array: NDArray, settings: PreparationSettings, for_training: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], Preprocessing]:
    """Scale the bands that are not constant in every image, with the margin that views need.

    Args:
        array: shape (n, height, width, bands).
        settings: of the preparation.
        for_training: whether an image is one of those that decide a scale over the data.

    Returns:
        The images, float32 in [0, 1], and how they are prepared.

    Raises:
        ValueError: an image that cannot be used, as `images[i]` with the reason; or the settings
            name another number of bands.
    """
    framing = settings.framing
    images, constant, scaled = [], [], []
    for i, raw in enumerate(array):
        with _named(i):
            image, _ = framing.without_nan(raw)
            images.append(image)
            constant.append(constant_bands(framing.kept(image)))
    left_out = frozenset(constant[0]).intersection(*constant)
    used = used_bands(array.shape[-1], left_out)
    for i, image in enumerate(images):
        with _named(i):
            require_content(image.shape[-1], constant[i], left_out)
    images = [image[..., used] for image in images]
    framing = replace(framing, scale=_with_limits(images, framing, for_training))
    for i, image in enumerate(images):
        with _named(i):
            scaled.append(framing.scaled(image))
    settings = replace(settings, scale=framing.scale)
    return np.stack(scaled), _preprocessing(array, settings, left_out)


def _with_limits(
    images: Sequence[NDArray], framing: Framing, for_training: NDArray[np.bool_]
) -> ValueScale:
    """Return the scale of images with its limits, learnt from those for training."""
    if not framing.scale.lacks_limits:
        return framing.scale
    measuring = Measuring.like(framing, int(for_training.sum()))
    measures: list[NDArray[np.float64]] = []
    for i in np.flatnonzero(for_training).tolist():
        with _named(i):
            measures.append(measuring.scaled(images[i]))
    return replace(framing.scale, limits=learnt_limits(measures, framing.scale))


def _preprocessing(
    array: NDArray, settings: PreparationSettings, left_out: frozenset[int]
) -> Preprocessing:
    used = used_bands(array.shape[-1], left_out)
    names, scale = settings.band_names, settings.pixel_scale_arcsec
    if names is not None and len(names) != array.shape[-1]:
        raise ValueError(f"band_names must name {array.shape[-1]} bands. Received: {names}")
    side = len(settings.framing.kept(array[0]))
    return Preprocessing(
        image_size=settings.image_size,
        fit=settings.fit,
        bands=len(used),
        scaling=settings.scale,
        bands_left_out=tuple(sorted(left_out)),
        band_names=None if names is None else tuple(names[band] for band in used),
        pixel_scale_arcsec=scale and scale * side / settings.image_size,
        source_scale_arcsec=scale,
        source_side=side,
    )


@contextlib.contextmanager
def _named(i: int) -> Iterator[None]:
    try:
        yield
    except UnusableFile as error:
        raise ValueError(f"images[{i}] cannot be used: {error}") from error
