"""What the points of a map are colored by: classes, or numbers on a scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm, Normalize, to_hex, to_rgb
from numpy.typing import NDArray

from deeplens_tf.figures.style import line_colours

NO_VALUE_NAME = "no value"
NO_VALUE_COLOR, OTHERS_COLOR = "#c3c7ce", "#5f6670"
SCALE_COLORS = "viridis"
_STOPS = 9


@dataclass(frozen=True)
class Classes:
    """Points of classes.

    Attributes:
        name: what the classes are called together.
        names: of the classes.
        codes: shape (points,), which of the names each point has; -1 for none.
        pooled: whether the last name stands for all remaining classes.
    """

    name: str
    names: tuple[str, ...]
    codes: NDArray[np.int64]
    pooled: bool = False

    @property
    def colors(self) -> list[str]:
        """One for each name."""
        if not self.pooled:
            return [*line_colours(len(self.names))]
        return [*line_colours(len(self.names) - 1), OTHERS_COLOR]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which points have a class."""
        return self.codes >= 0

    def of_points(self) -> list[str]:
        """Return the color of each point."""
        colors = [*self.colors, NO_VALUE_COLOR]
        return [colors[code] for code in self.codes]


@dataclass(frozen=True)
class Scale:
    """Points with numbers.

    Attributes:
        name: of the number.
        values: shape (points,), NaN for none; one at least is a number.
        logarithmic: whether colors follow its logarithm; all numbers are positive then.
    """

    name: str
    values: NDArray[np.float64]
    logarithmic: bool = False

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which points have a number."""
        return ~np.isnan(self.values)

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest number."""
        return float(np.nanmin(self.values)), float(np.nanmax(self.values))

    @property
    def norm(self) -> Normalize:
        """From a number to a place on the color map."""
        return (LogNorm if self.logarithmic else Normalize)(*self.limits)

    @property
    def places(self) -> NDArray[np.float64]:
        """Where on the color map the points are, from 0 to 1; NaN without a value."""
        return np.ma.filled(self.norm(np.ma.masked_invalid(self.values)), np.nan)

    def of_points(self) -> list[str]:
        """Return the color of each point."""
        colors = matplotlib.colormaps[SCALE_COLORS](np.nan_to_num(self.places))
        pairs = zip(colors, self.known, strict=True)
        return [to_hex(color) if known else NO_VALUE_COLOR for color, known in pairs]


Coloring = Classes | Scale


def scale_stops() -> list[str]:
    """Return colors at equal distances on the scale, the smallest number's first."""
    return [
        to_hex(color) for color in matplotlib.colormaps[SCALE_COLORS](np.linspace(0, 1, _STOPS))
    ]


def one_color(points: int) -> Classes:
    """Return the coloring of points of which nothing is known."""
    return Classes("images", ("image",), np.zeros(points, np.int64))


def rgb_of(colors: Sequence[str]) -> NDArray[np.uint8]:
    """Return colors by name as shape (colors, 3)."""
    return np.array([[round(255 * part) for part in to_rgb(color)] for color in colors], np.uint8)
