"""The image of one source file, read, digested and scaled: what no other file has a say in.

Worker processes run this module, so that it imports little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplens_tf.data.content import content_digest, typed_digest
from deeplens_tf.data.folders import SourceFile
from deeplens_tf.data.header_scales import stated_scale
from deeplens_tf.data.image_files import read_source
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.constant_bands import constant_bands, used_bands
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.selection import Selection


@dataclass(frozen=True)
class SourceImage:
    """An image file that could be read.

    Attributes:
        shape: (height, width, bands) of the image.
        mass_ev: axion mass in eV that the file contains, or None; unchecked.
        content: digest of the image, see `content.content_digest`.
        typed_content: see `content.typed_digest`.
        constant: value of each band that is constant where the image is kept.
        scaled: its other bands as a network takes them, see `Framing.scaled`; or why it cannot be
            used.
        is_lost: whether it can be used, but the interval of the data leaves nothing of it. It has
            a split all the same: those of the others do not depend on the interval.
        nan_filled: number of the kept pixels that were NaN and are filled.
        pixel_scale_arcsec: of the file; None if unknown.
    """

    shape: tuple[int, int, int]
    mass_ev: float | None
    content: str
    typed_content: bytes
    constant: Mapping[int, float]
    scaled: np.ndarray | UnusableFile
    nan_filled: int = 0
    is_lost: bool = False
    pixel_scale_arcsec: float | None = None


def read_source_images(
    files: Sequence[SourceFile],
    framing: Framing,
    bands: int | None,
    selection: Selection,
) -> list[SourceImage | UnusableFile]:
    """Return the image of each file, or why it cannot be read.

    Args:
        files: of a folder.
        framing: which part of an image is kept, and with which pixels.
        bands: number of bands that was asked for, see `read_image`.
        selection: which part of a file is its image.
    """
    return [_read_source_image(file, framing, bands, selection) for file in files]


def _read_source_image(
    file: SourceFile, framing: Framing, bands: int | None, selection: Selection
) -> SourceImage | UnusableFile:
    try:
        image, mass_ev = read_source(file, bands, selection)
        framing = framing.for_stated(stated_scale(file, selection))
    except UnusableFile as error:
        return error
    digests, scale = (content_digest(image), typed_digest(image)), framing.pixel_scale_arcsec
    constant, scaled, filled, is_lost = scaled_image(image, framing)
    return SourceImage(image.shape, mass_ev, *digests, constant, scaled, filled, is_lost, scale)


def scaled_image(
    image: np.ndarray, framing: Framing
) -> tuple[Mapping[int, float], np.ndarray | UnusableFile, int, bool]:
    """Return the constant bands of an image, its other bands scaled, its filled pixels, `is_lost`.

    With the limits of a scale over the data, it is first checked as where these are learnt.
    """
    constant: Mapping[int, float] = {}
    is_usable, filled = False, 0
    try:
        image, filled = framing.without_nan(image)
        constant = constant_bands(framing.kept(image))
        used = used_bands(image.shape[-1], constant)
        image = image[..., used] if constant else image
        if framing.scale.limits is not None:
            framing.require_usable(image)
            is_usable = True
        return constant, framing.scaled(image), filled, False
    except UnusableFile as error:
        return (constant, error, filled, True) if is_usable else ({}, error, 0, False)
