"""Skies: what makes an image differ from the one that its preset takes of a lens in the centre.

Each image draws its own sky from ranges: for test sets that differ from the training images in one
known way, and for training images that differ from each other in all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import Lens

# A number, or two numbers, or "low:high": each image draws uniformly between two.
Range = float | str | Sequence[float]

# What a range may contain. At half its width, the PSF of Model II is narrower than a pixel. The
# approximation of `sersic_b` holds for these indices.
SKY_BOUNDS = {
    "psf_scale": (0.5, 5.0),
    "noise_scale": (0.1, 10.0),
    "source_index": (0.5, 10.0),
    "lens_offset_pixels": (0.0, 16.0),
}
PRIOR = "prior"  # describes a source index that is left to its prior
SKY_SUMMARIES = {
    "psf_scale": "width of the PSF, relative to the instrument's; 0.8:1.25 draws one per image",
    "noise_scale": "strength of the noise, relative to the light and the instrument's; 2 or 1:2",
    "source_index": "Sersic index of the source, instead of that of the source prior; 4 or 1:4",
    "lens_offset_pixels": "distance of the lens from the image's centre, in a random direction",
}


@dataclass(frozen=True)
class Sky:
    """The ranges from which each image draws its sky; without arguments, images are the usual ones.

    A range is a number, which all images have, or a pair (low, high) or text "low:high", between
    which each image draws uniformly.

    Attributes:
        psf_scale: width of the PSF, relative to the instrument's; from 0.5 to 5.
        noise_scale: standard deviation of the noise at each pixel, relative to the light and to
            that of the instrument; from 0.1 to 10. See `render_image`.
        source_index: Sérsic index of the source, in place of that of the source's prior, which None
            stands for; from 0.5 to 10.
        lens_offset_pixels: distance of the lens from the image's centre, in a direction that each
            image draws; from 0 to 16. Source and substructure are displaced with the lens.
        ranges: name -> (low, high) of each of them; a source index of None has no range.

    Raises:
        RequestError: a range is invalid; the message states what is valid.
    """

    psf_scale: Range = 1.0
    noise_scale: Range = 1.0
    source_index: Range | None = None
    lens_offset_pixels: Range = 0.0

    ranges: dict[str, tuple[float, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [
            name for name in SKY_BOUNDS if name != "source_index" or self.source_index is not None
        ]
        ranges = {name: _ends(name, getattr(self, name)) for name in names}
        object.__setattr__(self, "ranges", ranges)

    @property
    def changes(self) -> list[str]:
        """The names of the ranges that make images differ from the usual ones."""
        return [name for name, ends in self.ranges.items() if ends != USUAL_SKY.ranges.get(name)]

    def describe(self) -> dict[str, str]:
        """Return name -> range as text; "prior" for a source index that is left to its prior."""
        texts = {
            name: repr(low) if low == high else f"{low!r}:{high!r}"
            for name, (low, high) in self.ranges.items()
        }
        return {"source_index": PRIOR} | texts

    def over(self, lens: Lens, rng: np.random.Generator) -> Lens:
        """Return a lens under a sky that is drawn from the ranges.

        Args:
            lens: the rest of its parameters is kept.
            rng: the only source of randomness. What a range draws doesn't depend on the others.
        """
        ranges = {"source_index": (lens.source_index, lens.source_index)} | self.ranges
        psf_scale, noise_scale, source_index, offset_pixels = (
            float(rng.uniform(*ranges[name])) for name in SKY_BOUNDS
        )
        angle_rad = rng.uniform(0.0, 2.0 * np.pi)
        return replace(
            lens,
            psf_scale=psf_scale,
            noise_scale=noise_scale,
            source_index=source_index,
            offset_x_pixels=float(offset_pixels * np.cos(angle_rad)),
            offset_y_pixels=float(offset_pixels * np.sin(angle_rad)),
        )


def described_sky(texts: Mapping[str, str]) -> Sky:
    """Return the sky that `Sky.describe` describes.

    Raises:
        RequestError: a range is invalid.
    """
    ranges: dict[str, Any] = {name: text for name, text in texts.items() if text != PRIOR}
    return Sky(**ranges)


def _ends(name: str, value: Range) -> tuple[float, float]:
    given = value.split(":") if isinstance(value, str) else value
    parts = given if isinstance(given, Sequence) else [given]
    try:
        low, high = map(float, parts if len(parts) > 1 else [*parts, *parts])
    except (TypeError, ValueError):
        raise RequestError(
            f"{name} takes a number or low:high, as in 0.8:1.25. Received: {value!r}"
        ) from None
    smallest, largest = SKY_BOUNDS[name]
    if not smallest <= low <= high <= largest:
        raise RequestError(
            f"{name} must be from {smallest:g} to {largest:g}, the lower end first. "
            f"Received: {value!r}"
        )
    return low, high


# Each image is as the instrument of its preset takes it, of a lens in the centre.
USUAL_SKY = Sky()
