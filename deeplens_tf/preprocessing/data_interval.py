"""The interval of pixel values of a whole data set, learnt from its training images.

Each image is measured by itself, in any process, and the measures are pooled. The extremes are
those of all kept pixels. Percentiles and zscale are of a sample: of each image as many pixels, in
strata along its rows, drawn by a seed that is a digest of its pixels. The interval therefore does
not depend on the order of the images, on the names of their files or on the number of processes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.value_scale import Limits, ValueScale

SAMPLE_VALUES = 2**22  # of all training images and bands together, 32 MiB in float64


@dataclass(frozen=True)
class Measuring(Framing):
    """A framing that measures an image instead of scaling it.

    Attributes:
        images: number of images that are measured, among which the sample is shared.
    """

    images: int = 1

    @classmethod
    def like(cls, framing: Framing, images: int) -> "Measuring":
        """Return what measures the pixels that a framing keeps."""
        own = {each.name: getattr(framing, each.name) for each in fields(Framing)}
        return cls(**own, images=images)

    def scaled(self, image: np.ndarray) -> NDArray[np.float64]:
        """Return the measure of an image.

        Args:
            image: (height, width, bands), see `Framing.without_nan`.

        Returns:
            (2 + n, bands), float64: the minimum and the maximum of each band, and the values of n
            of its pixels, 0 for interval "minmax".

        Raises:
            UnusableFile: the image cannot be used, see `Framing.require_usable`.
        """
        self.require_usable(image)
        kept = self.kept(image)
        pixels = kept.reshape(-1, kept.shape[-1])
        count = max(1, SAMPLE_VALUES // (self.images * pixels.shape[1]))
        some = pixels[:0] if self.scale.interval == "minmax" else pixels[_positions(pixels, count)]
        ends = np.stack([pixels.min(axis=0), pixels.max(axis=0)])
        return np.concatenate([ends, some]).astype(np.float64)


def learnt_limits(measures: Sequence[NDArray[np.float64]], scale: ValueScale) -> Limits:
    """Return the ends of the interval of images, or of each of their bands.

    Args:
        measures: of the images, at least one, see `Measuring.scaled`.
        scale: over the data.

    Raises:
        ValueError: the interval is constant or not finite.
    """
    apart, of_image = scale.scale_bands == "each", replace(scale.recipe, scale_over="image")
    rows = slice(2) if scale.interval == "minmax" else slice(2, None)
    values = np.concatenate([each[rows] for each in measures])
    groups = values.T if apart else values.reshape(1, -1)  # (intervals, values)
    # Sorted, so that zscale's every k-th value does not depend on the order of the images.
    ends = [of_image.ends(np.sort(group).reshape(-1, 1, 1)) for group in groups]
    for low, high in ends:
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(
                f"the {scale.interval} interval of the training images is constant or not finite, "
                f"{low:g} to {high:g}"
            )
    return tuple(ends)


def _positions(pixels: NDArray, count: int) -> NDArray[np.int64]:
    """Return the positions of some of (n, bands) pixels, one in each of `count` equal strata."""
    total = len(pixels)
    if count >= total:
        return np.arange(total)
    # NumPy keeps the numbers of a bit generator in later versions, those of a Generator not.
    seed = zlib.crc32(np.ascontiguousarray(pixels).tobytes())
    shifts = np.random.PCG64(seed).random_raw(count) / 2**64
    return np.minimum((np.arange(count) + shifts) * (total / count), total - 1).astype(np.int64)
