"""`Preprocessing.apply` as operations of a graph, for a model that runs without this package.

Where `apply` refuses an image with an error, which no graph can raise, the graph says that the
image cannot be used.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from keras import KerasTensor, ops

from deeplens_tf.preprocessing.pixel_checks import (
    MAX_OUTLIER_FRACTION,
    MIN_OUTLIER_COUNT,
    MIN_RANGE,
    MIN_RANGE_OF_THE_REST,
)
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.scaling import resize_matrix
from deeplens_tf.preprocessing.value_scale import ValueScale

LOG_STRETCH = 1000.0  # of astropy's LogStretch
# What is computed here of a scale. Any other setting of it is refused.
COMPUTED = {
    *("interval", "percentiles", "stretch", "asinh_softening", "scale_bands"),
    *("max_nan_fraction", "nan_fill"),
}
SERIES_FROM = 10.0  # softenings from which asinh(v / a) is computed by its series


@dataclass(frozen=True)
class RawPixels:
    """The way from raw pixels of one size to those of a network.

    Attributes:
        how: the preprocessing.

    Raises:
        ValueError: with the part of the preprocessing that a graph cannot do.
    """

    how: Preprocessing

    def __post_init__(self) -> None:
        if self.how.scaling.scale_over == "data":
            raise ValueError("its graph scales each image by its own interval, not by the data's")
        if self.how.scaling.interval == "zscale":
            raise ValueError("the interval zscale is found by iterations, which no graph holds")
        for each in fields(self.how.scaling):
            if each.name not in COMPUTED and getattr(self.how.scaling, each.name) != each.default:
                raise ValueError(f"{each.name} of its scale is not part of an exported graph")
        if self.how.resampled:
            raise ValueError("images are resampled from the pixel scale of each file")
        if self.how.source_side is None and self.how.fit == "resize":
            raise ValueError("the size of the images before they are resized is unknown")

    @property
    def side(self) -> int:
        """Side in pixels of the square that is kept of a raw image."""
        return self.how.source_side or self.how.image_size

    @property
    def is_cropped(self) -> bool:
        """Whether raw images may be larger than the square that is kept."""
        return self.how.fit == "crop" and self.side == self.how.image_size

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """(height, width, bands) of raw images; None for any size from `side` on."""
        side = None if self.is_cropped else self.side
        return side, side, self.how.bands + len(self.how.bands_left_out)

    def __call__(self, images: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
        """Return the pixels of a network and which images can be used.

        Args:
            images: (batch, *input_shape), float32.

        Returns:
            (batch, *how.image_shape), float32 in [0, 1], and (batch,), whether `apply` takes the
            image. The pixels of one that cannot be used are finite or not, and mean nothing.
        """
        kept = self._filled(self._used_bands(self._central(images)))
        pixels = ops.transpose(kept, (0, 3, 1, 2))  # (batch, bands, side, side)
        pixels, usable = _finite(pixels)
        if self.how.bands > 1:
            ends = (ops.max(pixels, (2, 3)), ops.min(pixels, (2, 3)))
            usable = ops.logical_and(usable, ops.all(ops.greater(*ends), axis=1))
        unit, scaled = self._to_interval(ops.reshape(pixels, (-1, *self._grouped(self.side))))
        usable = ops.logical_and(usable, scaled)
        if self.side != self.how.image_size:
            unit, resized = self._resized(unit)
            usable = ops.logical_and(usable, resized)
        unit = ops.reshape(stretched(unit, self.how.scaling), (-1, *self._planes))
        images = ops.transpose(unit, (0, 2, 3, 1))
        return ops.concatenate([images] * self.how.repeat, axis=-1), usable

    @property
    def _planes(self) -> tuple[int, int, int]:
        return self.how.bands, self.how.image_size, self.how.image_size

    def _grouped(self, side: int) -> tuple[int, int]:
        """(intervals, values of each) of the pixels of an image."""
        groups = self.how.bands if self.how.scaling.scale_bands == "each" else 1
        return groups, self.how.bands // groups * side**2

    def _central(self, images: KerasTensor) -> KerasTensor:
        if not self.is_cropped:
            return images
        side, shape = self.side, ops.shape(images)
        top, left = ((shape[axis] - side) // 2 for axis in (1, 2))
        square = images[:, top : top + side, left : left + side]
        # With its batch size: pixels that are missing must not be taken from the next image.
        return ops.reshape(square, (shape[0], side, side, shape[3]))

    def _used_bands(self, images: KerasTensor) -> KerasTensor:
        left_out = self.how.bands_left_out
        used = [band for band in range(self.input_shape[2]) if band not in left_out]
        return ops.take(images, used, axis=-1) if left_out else images

    def _filled(self, kept: KerasTensor) -> KerasTensor:
        """Replace NaN in the bands that have few enough, as `ValueScale.without_nan` does."""
        scale, count = self.how.scaling, self.side**2
        if not scale.max_nan_fraction:
            return kept
        values = ops.reshape(kept, (-1, count, self.how.bands))
        gaps = ops.isnan(values)
        missing = ops.sum(ops.cast(gaps, "int32"), axis=1, keepdims=True)
        most = np.flatnonzero(np.arange(count + 1) / count <= scale.max_nan_fraction)[-1]
        fill = _fill(ops.where(gaps, math.inf, values), count - missing, scale)
        filled = ops.where(ops.logical_and(gaps, missing <= int(most)), fill, values)
        return ops.reshape(filled, (-1, self.side, self.side, self.how.bands))

    def _to_interval(self, values: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
        """Scale (batch, intervals, values) to [0, 1]; and whether that leaves something to see."""
        ordered = ops.sort(values, axis=-1)
        # Float32 is exact enough where the interval begins near 0, whatever the level of the sky.
        lowest = _places(self.how.scaling, ordered.shape[-1])[0][0]
        level = ordered[..., lowest : lowest + 1]
        values, ordered = values - level, ordered - level
        low, high = _ends(ordered, self.how.scaling)
        if self.how.scaling.interval != "minmax":
            values, ordered = ops.clip(values, low, high), ops.clip(ordered, low, high)
        usable = ops.logical_and(high > low, _is_spread(ordered, low, high))
        unit = (values - low) / ops.where(high > low, high - low, 1.0)
        return unit, ops.all(usable, axis=(1, 2))

    def _resized(self, unit: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
        """Resize (batch, intervals, values) along both axes, as `scaling.rescaled` does."""
        matrix = resize_matrix(self.side, self.how.image_size).T
        planes = ops.reshape(unit, (-1, self.how.bands, self.side, self.side))
        for _ in range(2):  # columns, then rows
            planes = ops.transpose(ops.matmul(planes, matrix), (0, 1, 3, 2))
        values = ops.reshape(planes, (-1, *self._grouped(self.how.image_size)))
        low, high = (find(values, axis=-1, keepdims=True) for find in (ops.min, ops.max))
        usable = ops.all(high - low > MIN_RANGE, axis=(1, 2))
        if self.how.scaling.interval != "minmax":
            return ops.clip(values, 0.0, 1.0), usable
        return (values - low) / ops.where(high > low, high - low, 1.0), usable


def _finite(pixels: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """Return (batch, bands, side, side) within float32's range of ratios, and which are finite.

    The factors are powers of two, which change no ratio. Without them, the difference of the
    largest numbers overflows, and that of the smallest counts as 0.
    """
    usable = ops.all(ops.isfinite(pixels), axis=(1, 2, 3))
    pixels = ops.where(usable[:, None, None, None], pixels, 0.0)
    top = ops.max(ops.abs(pixels), axis=(1, 2, 3), keepdims=True)
    factor = ops.where(top > 2.0**120, 2.0**-4, ops.where(top < 2.0**-60, 2.0**60, 1.0))
    return pixels * factor, usable


def _fill(known: KerasTensor, count: KerasTensor, scale: ValueScale) -> KerasTensor:
    """Return what replaces NaN in (batch, values, bands), where infinity stands for it."""
    if scale.nan_fill == "zero":
        return ops.zeros_like(known[:, :1])
    if scale.nan_fill == "minimum":
        return ops.min(known, axis=1, keepdims=True)
    ordered = ops.sort(known, axis=1)
    places = ops.reshape(ops.arange(known.shape[1], dtype="int32"), (1, -1, 1))
    middle = [
        ops.sum(ops.where(places == place, ordered, 0.0), axis=1, keepdims=True)
        for place in ((count - 1) // 2, count // 2)
    ]
    return middle[0] / 2 + middle[1] / 2


def _ends(ordered: KerasTensor, scale: ValueScale) -> tuple[KerasTensor, KerasTensor]:
    """Return the ends of the interval of sorted (batch, intervals, values): (batch, intervals, 1).

    A percentile is interpolated linearly between two values, as by `numpy.percentile`.
    """
    ends = []
    for below, share in _places(scale, ordered.shape[-1]):
        lower, upper = ordered[..., below : below + 1], ordered[..., below + 1 : below + 2]
        step = upper - lower
        # From the nearer value, so that the extremes are exact.
        ends.append(lower + step * share if share < 0.5 else upper - step * (1 - share))
    return ends[0], ends[1]


def _places(scale: ValueScale, count: int) -> list[tuple[int, float]]:
    """Return where both ends are among sorted values: the value below and the next one's share."""
    places = [percentile / 100 * (count - 1) for percentile in scale.percentiles or (0.0, 100.0)]
    return [(below, place - below) for place in places for below in [min(int(place), count - 2)]]


def _is_spread(ordered: KerasTensor, low: KerasTensor, high: KerasTensor) -> KerasTensor:
    """Return where `pixel_checks.check_pixels` takes sorted values: (batch, intervals, 1)."""
    limit, count = MIN_RANGE_OF_THE_REST * (high - low), ordered.shape[-1]
    handful = max(MIN_OUTLIER_COUNT, int(MAX_OUTLIER_FRACTION * count))
    bodies = ordered[..., count - 1 - handful :] - ordered[..., : handful + 1]
    spread = ops.min(bodies, axis=-1, keepdims=True) >= limit
    is_low, is_high = ordered == low, ordered == high
    low_count, high_count = (
        ops.sum(ops.cast(each, "int32"), axis=-1, keepdims=True) for each in (is_low, is_high)
    )
    at_ends = ops.logical_or(is_low, is_high)
    inner = ops.max(ops.where(at_ends, -math.inf, ordered), axis=-1, keepdims=True) - ops.min(
        ops.where(at_ends, math.inf, ordered), axis=-1, keepdims=True
    )
    narrow = ops.logical_and(inner > 0, inner < limit)
    repeated = ops.maximum(low_count, high_count) > MIN_OUTLIER_COUNT
    return ops.logical_and(spread, ops.logical_not(ops.logical_and(repeated, narrow)))


def stretched(values: KerasTensor, scale: ValueScale) -> KerasTensor:
    """Return values in [0, 1] after the stretch, as `ValueScale.stretched` does."""
    if scale.stretch == "sqrt":
        return ops.sqrt(values)
    if scale.stretch == "log":
        values = ops.log(LOG_STRETCH * values + 1) / math.log(LOG_STRETCH + 1)
    if scale.asinh_softening is not None:
        softening = scale.asinh_softening
        values = _asinh(values / softening, softening) / math.asinh(1 / softening)
    return ops.clip(values, 0.0, 1.0)


def _asinh(values: Any, softening: float) -> Any:
    """Return asinh of values in [0, 1 / softening] by operations that every runtime has."""
    squares = values * values
    if softening >= SERIES_FROM:  # where the logarithm of almost 1 is not exact
        return values * (1 - squares * (1 / 6 - squares * (3 / 40 - squares * (15 / 336))))
    return ops.log(values + ops.sqrt(squares + 1))
