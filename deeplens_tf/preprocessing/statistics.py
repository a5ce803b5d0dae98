"""Simple statistics of scaled images, and the range that those of the training images span.

No list of rules foresees every fill value and every defect. After min-max scaling, most of them
move the bulk of the pixels, which these statistics show.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

STATISTICS = ("median", "interquartile_range", "share_low", "share_high")
IS_SHARE = np.array([name.startswith("share") for name in STATISTICS])

LOW_END, HIGH_END = 0.01, 0.99  # of the range from 0 to 1
PERCENTILES = (1, 99)  # so that a few defective training images do not widen the range
SPARE_FACTOR = 2.0  # factor beyond either end of the range
# Further tolerance below and above, for images whose background is zero but for rounding errors.
BELOW, ABOVE = 1e-6, 1e-3


def image_statistics(images: ArrayLike) -> NDArray[np.float64]:
    """Return the `STATISTICS` of each image over all its pixels and bands.

    Args:
        images: shape (n, ...), scaled to [0, 1].

    Returns:
        Shape (n, 4): median, interquartile range, and the shares of values below 0.01 and above
        0.99.
    """
    values = np.asarray(images, np.float32)
    values = values.reshape(len(values), -1)  # (n, values)
    first, median, third = np.percentile(values, [25, 50, 75], axis=1)
    shares = [(values < LOW_END).mean(axis=1), (values > HIGH_END).mean(axis=1)]
    return np.stack([median, third - first, *shares], axis=1).astype(np.float64)


@dataclass(frozen=True)
class TrainingRange:
    """The 1st and the 99th percentile of each of the `STATISTICS` among the training images.

    Attributes:
        low: 1st percentiles, in the order of `STATISTICS`.
        high: 99th percentiles.
        n: number of images that they are from.

    Raises:
        ValueError: not four pairs of ordered numbers from 0 to 1, or n below 1.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int

    def __post_init__(self) -> None:
        pairs = list(zip(self.low, self.high, strict=False))
        valid = len(self.low) == len(self.high) == len(STATISTICS)
        valid = valid and all(_is_real(a) and _is_real(b) and 0 <= a <= b <= 1 for a, b in pairs)
        if not valid or type(self.n) is not int or self.n < 1:
            raise ValueError(
                f"training_range must have a low and a high from 0 to 1 of each of "
                f"{', '.join(STATISTICS)}, and n of at least 1. Received: {self!r:.200}"
            )

    @classmethod
    def of(cls, statistics: ArrayLike) -> "TrainingRange":
        """Return the range of statistics of shape (n, 4), as `image_statistics` returns them."""
        values = np.asarray(statistics, np.float64)
        low, high = np.percentile(values, PERCENTILES, axis=0)
        return cls(tuple(low.tolist()), tuple(high.tolist()), len(values))

    def unlike(self, images: ArrayLike) -> NDArray[np.bool_]:
        """Return for each image whether a statistic is far outside the training images' range.

        It is if it is below half of `low` or above twice `high`, by more than rounding errors. Of
        the shares, two more pixels than that are allowed: every scaled image has a minimum and a
        maximum.

        Args:
            images: shape (n, height, width, bands), scaled to [0, 1].

        Returns:
            Shape (n,).
        """
        found = image_statistics(images)
        spare = 2 / max(int(np.prod(np.shape(images)[1:])), 1)
        below = found < np.array(self.low) / SPARE_FACTOR - BELOW
        above = found > np.array(self.high) * SPARE_FACTOR + np.where(IS_SHARE, spare, ABOVE)
        return np.asarray((below | above).any(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a file."""
        ends = zip(STATISTICS, self.low, self.high, strict=True)
        return {"n": self.n, **{name: [low, high] for name, low, high in ends}}

    @classmethod
    def from_dict(cls, values: Any) -> "TrainingRange":
        """Return the range that `to_dict` described.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(values, Mapping) or set(values) != {"n", *STATISTICS}:
            raise ValueError(
                f"training_range must have the keys n, {', '.join(STATISTICS)}. "
                f"Received: {values!r:.200}"
            )
        pairs = [values[name] for name in STATISTICS]
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise ValueError(
                f"training_range must have two ends per statistic. Received: {values!r:.200}"
            )
        low, high = zip(*pairs, strict=True)
        return cls(low, high, values["n"])


def _is_real(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def unlike_training_lines(count: int, total: int) -> list[str]:
    """Return the line that evaluate and predict print, none if no image is unlike the training."""
    if not count:
        return []
    return [
        f"{count} of {total} images are unlike the training images (column unlike_training): their "
        "predictions may be wrong without a sign of it"
    ]
