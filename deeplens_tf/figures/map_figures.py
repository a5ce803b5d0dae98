"""Figures of a sample in two dimensions: its points, and its images at their places."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from deeplens_tf.figures.map_colors import (
    NO_VALUE_COLOR,
    NO_VALUE_NAME,
    SCALE_COLORS,
    Classes,
    Coloring,
    Scale,
    rgb_of,
)
from deeplens_tf.figures.style import in_house_style, name_axes

CELLS = 20  # of thumbnails along an axis
PANEL_INCHES = 5.4
_FRAME = 2  # pixels of a thumbnail
_MARGIN = 0.04  # around the points, as a share of their range


class Plane(NamedTuple):
    """Two coordinates of each point, shape (points, 2), and what the axes are called."""

    title: str
    coordinates: NDArray[np.float64]
    axes: tuple[str, str]


class Place(NamedTuple):
    """The cell of a grid, its row from below, and the point that is drawn in it."""

    row: int
    column: int
    point: int


@in_house_style
def map_figure(planes: Sequence[Plane], coloring: Coloring, title: str) -> Figure:
    """Draw the points of each plane in a panel of its own.

    Args:
        planes: one or more, of the same points.
        coloring: of the points; those without a value are gray, below the others.
        title: of the figure.
    """
    figure, panels = _panels(planes, title)
    for axes, plane in zip(panels, planes, strict=True):
        _scatter(axes, plane.coordinates, coloring)
    _explain(figure, panels, coloring)
    return figure


@in_house_style
def thumbnail_map(
    planes: Sequence[Plane],
    thumbnails: NDArray[np.uint8],
    shown: NDArray[np.bool_],
    coloring: Coloring,
    title: str,
) -> Figure:
    """Draw images at their places, one in a cell, each with a frame in the color of its point.

    Args:
        planes: one or more, of the same points.
        thumbnails: shape (points, side, side, 3).
        shown: shape (points,), which of them are images.
        coloring: of the points.
        title: of the figure.
    """
    framed = _framed(thumbnails, coloring.of_points())
    figure, panels = _panels(planes, title)
    for axes, plane in zip(panels, planes, strict=True):
        low, high = _limits(plane.coordinates)
        places = thumbnail_places(plane.coordinates, shown)
        (left, bottom), (right, top) = low, high
        look: dict[str, Any] = {"extent": (left, right, bottom, top), "aspect": "auto"}
        axes.imshow(_mosaic(framed, places), interpolation="nearest", zorder=2, **look)
    _explain(figure, panels, coloring)
    return figure


def thumbnail_places(
    coordinates: NDArray[np.float64], shown: NDArray[np.bool_], cells: int = CELLS
) -> list[Place]:
    """Return which point is drawn in each cell of a square grid over all points.

    It is the one nearest to the center of the cell, of those in it; empty cells stay empty.

    Args:
        coordinates: shape (points, 2).
        shown: shape (points,), which of them can be drawn.
        cells: along each axis.
    """
    low, high = _limits(coordinates)
    positions = (coordinates - low) / (high - low) * cells  # (points, 2), in cells
    inside = np.clip(positions.astype(int), 0, cells - 1)
    distances = np.hypot(*(positions - inside - 0.5).T)
    nearest: dict[tuple[int, int], int] = {}
    for point in np.flatnonzero(shown)[np.argsort(distances[shown], kind="stable")].tolist():
        column, row = inside[point].tolist()
        nearest.setdefault((row, column), point)
    return [Place(row, column, point) for (row, column), point in sorted(nearest.items())]


def _panels(planes: Sequence[Plane], title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(PANEL_INCHES * len(planes) + 0.4, PANEL_INCHES + 1.1))
    panels = list(figure.subplots(1, len(planes), squeeze=False)[0])
    for axes, plane in zip(panels, planes, strict=True):
        name_axes(axes, plane.title, *plane.axes)
        low, high = _limits(plane.coordinates)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), box_aspect=1)
    figure.suptitle(title)
    return figure, panels


def _limits(coordinates: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Return the corners of the part of a plane that is drawn, each of shape (2,)."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = np.where(high > low, _MARGIN * (high - low), 1.0)
    return low - margin, high + margin


def _scatter(axes: Axes, coordinates: NDArray[np.float64], coloring: Coloring) -> None:
    count = len(coordinates)
    size, alpha = float(np.clip(9000 / count, 3, 26)), 0.85 if count < 2000 else 0.6
    # In an order of chance, so that no class covers the others; those without a value first.
    order = np.random.default_rng(0).permutation(count)
    order = order[np.argsort(coloring.known[order], kind="stable")]
    colors = np.array(coloring.of_points())[order]
    x, y = coordinates[order].T
    axes.scatter(x, y, c=colors.tolist(), s=size, alpha=alpha, linewidths=0)


def _explain(figure: Figure, panels: Sequence[Axes], coloring: Coloring) -> None:
    """Say what the colors mean: entries of a legend, and a bar for a scale."""
    entries: Mapping[str, str] = {}
    if isinstance(coloring, Classes):
        counts = np.bincount(coloring.codes[coloring.known], minlength=len(coloring.names))
        labels = [f"{name} ({n:,})" for name, n in zip(coloring.names, counts, strict=True)]
        entries = dict(zip(labels, coloring.colors, strict=True))
    else:
        _draw_bar(figure, panels, coloring)
    if missing := int((~coloring.known).sum()):
        entries = {**entries, f"{NO_VALUE_NAME} ({missing:,})": NO_VALUE_COLOR}
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=7, color=color, label=label)
        for label, color in entries.items()
    ]
    if handles:
        title = coloring.name if isinstance(coloring, Classes) else None
        columns = min(len(handles), 4 * len(panels))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def _draw_bar(figure: Figure, panels: Sequence[Axes], coloring: Scale) -> None:
    colors = ScalarMappable(coloring.norm, matplotlib.colormaps[SCALE_COLORS])
    label = f"{coloring.name} (logarithmic scale)" if coloring.logarithmic else coloring.name
    figure.colorbar(colors, ax=list(panels), label=label, shrink=0.8)


def _framed(thumbnails: NDArray[np.uint8], colors: Sequence[str]) -> NDArray[np.uint8]:
    framed = np.broadcast_to(rgb_of(colors)[:, None, None], thumbnails.shape).copy()
    inner = slice(_FRAME, -_FRAME)
    framed[:, inner, inner] = thumbnails[:, inner, inner]
    return framed


def _mosaic(thumbnails: NDArray[np.uint8], places: Sequence[Place]) -> NDArray[np.uint8]:
    """Return the cells as one picture, shape (cells * side, cells * side, 4), clear where empty."""
    side = thumbnails.shape[1]
    picture = np.zeros((CELLS, side, CELLS, side, 4), np.uint8)
    for row, column, point in places:
        picture[CELLS - 1 - row, :, column, :, :3] = thumbnails[point]
        picture[CELLS - 1 - row, :, column, :, 3] = 255
    return picture.reshape(CELLS * side, CELLS * side, 4)
