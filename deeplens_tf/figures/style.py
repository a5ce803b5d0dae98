"""The style that all figures share.

Figures are created as `Figure` objects, never through pyplot: they need no display, are in no
global list, and are freed with their last reference.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

IMAGE_COLOURS = "inferno"
"""Colour map of single-band images: perceptually uniform, with black for the empty sky."""

MATRIX_COLOURS = "cividis"
"""Colour map of matrices: perceptually uniform, also with colour-blindness."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's colour-blind safe palette, strongest contrast on white first, without yellow."""

QUANTITY_LABELS = {
    "macro_auc": "macro AUC (one against the rest)",
    "auc": "AUC",
    "mae_dex": "mean absolute error / dex",
    "mae": "mean absolute error",
    "r2": "R²",
    "feature_std": "spread of the features\n(feature_std)",
}
"""Axis labels of the quantities that are not labelled by their own name."""

GREY = "0.45"

STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "figure.titlesize": 14,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "lines.linewidth": 1.8,
    "text.usetex": False,
    "text.parse_math": False,  # a class name may contain $
    "axes.unicode_minus": True,
}


def in_house_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Decorate a drawing function to run with `STYLE`; matplotlib's settings do not change."""

    @wraps(draw)
    def styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def line_colours(count: int) -> Sequence[str]:
    """Return a colour per line: from the palette if it has enough, else from a colour map."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    steps = np.linspace(0, 0.9, count)  # the brightest end is too pale for a line on white
    return [to_hex(colour) for colour in matplotlib.colormaps["viridis"](steps)]


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the title and the axis labels of a panel."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
