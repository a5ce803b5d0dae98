"""The look that all figures share.

Figures are made as `Figure` objects and never through pyplot: they need no display, belong to no
global list, and are freed when the last reference to them goes.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

IMAGE_COLOURS = "inferno"
"""Colour map of every single-band image: perceptually uniform, and the empty sky is black."""

MATRIX_COLOURS = "cividis"
"""Colour map of matrices: perceptually uniform and the same to colour-blind eyes."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's colours for all kinds of colour vision, darkest-on-white first; no yellow."""

GREY = "0.45"

STYLE = {
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
    "text.parse_math": False,  # a class may be called $x$
    "axes.unicode_minus": True,
}


def in_house_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Run a drawing function under `STYLE` and put matplotlib's settings back afterwards."""

    @wraps(draw)
    def styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def line_colours(count: int) -> Sequence[str]:
    """Return a colour per line: the palette while it lasts, else steps along a colour map."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    steps = np.linspace(0, 0.9, count)  # the brightest end is too pale for a line on white
    return [to_hex(colour) for colour in matplotlib.colormaps["viridis"](steps)]


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Give a panel its title and axis labels."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
