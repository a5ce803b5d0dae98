"""Figures of the tutorials: the effect of substructure, masses, similarities, what features hold.

Arrays in, a matplotlib Figure out, in the style of the package's figures; and the one number that
the tutorials quote from a figure.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from deeplens_tf.figures import (
    IMAGE_COLOURS,
    MATRIX_COLOURS,
    PALETTE,
    in_house_style,
    line_colours,
    name_axes,
)

DIFFERENCE_COLOURS = "PuOr_r"
"""Colour map of differences: white at zero, orange and purple, safe with colour-blindness."""

PERCENT_IN_SCALE = 99.5
"""Percentage of a residual's pixels within the colour scale: outliers must not set the scale."""

MIN_LIMIT_PERCENT = 0.1
"""Minimum limit of a residual's colour scale, which a lens without substructure would make 0."""

MAX_NUMBERED_COLUMNS = 8


def residual_rms_percent(image: ArrayLike, smooth: ArrayLike, side: int | None = None) -> float:
    """Return the size of the effect of substructure on an image.

    Args:
        image: shape (H, W).
        smooth: the same lens without substructure.
        side: of the central square to use, in pixels; None for the complete image, which is
            mostly empty sky and therefore gives a smaller number.

    Returns:
        Root mean square of image minus smooth over the pixels, in % of the brightest pixel.

    Raises:
        ValueError: shapes that differ or are not 2-D, or a side larger than the image.
    """
    image, smooth = np.asarray(image, float), np.asarray(smooth, float)
    if image.ndim != 2 or image.shape != smooth.shape:
        raise ValueError(
            "image and smooth must have one shape (H, W). "
            f"Received: {image.shape} and {smooth.shape}"
        )
    residual = image - smooth
    if side is not None:
        if not 1 <= side <= min(image.shape):
            raise ValueError(f"side must be from 1 to {min(image.shape)}. Received: {side}")
        top, left = ((length - side) // 2 for length in image.shape)
        residual = residual[top : top + side, left : left + side]
    return float(100 * np.sqrt(np.mean(residual**2)) / image.max())


@in_house_style
def substructure_figure(
    images: Sequence[ArrayLike],
    smooth: Sequence[ArrayLike],
    names: Sequence[str],
    pixel_scale_arcsec: float,
    half_side_arcsec: float | None = None,
    title: str = "",
) -> Figure:
    """Show lenses above their residuals, the difference from the smooth lenses.

    Args:
        images: n arrays of shape (H, W).
        smooth: the same lenses without substructure, in the same order.
        names: n titles.
        pixel_scale_arcsec: side of a pixel.
        half_side_arcsec: half the side of the part to show; None for the complete image.
        title: of the figure.

    Returns:
        The figure, y upwards; each residual is in % of the brightest pixel of its image, on its
        own scale, which a few pixels may exceed.

    Raises:
        ValueError: no images, or lengths that differ.
    """
    if not len(images) or not len(images) == len(smooth) == len(names):
        raise ValueError(
            "images, smooth and names must have one length of 1 or more. "
            f"Received: {len(images)}, {len(smooth)} and {len(names)}"
        )
    figure = Figure(figsize=(2.7 * len(images) + 0.7, 6.3))
    panels = figure.subplots(2, len(images), squeeze=False, sharex=True, sharey=True)
    for (upper, lower), image, without, name in zip(panels.T, images, smooth, names, strict=True):
        image, without = np.asarray(image, float), np.asarray(without, float)
        residual_percent = 100 * (image - without) / image.max()
        limit = max(np.percentile(np.abs(residual_percent), PERCENT_IN_SCALE), MIN_LIMIT_PERCENT)
        _sky(upper, image / image.max(), pixel_scale_arcsec, IMAGE_COLOURS, (0, 1))
        shown = _sky(
            lower, residual_percent, pixel_scale_arcsec, DIFFERENCE_COLOURS, (-limit, limit)
        )
        figure.colorbar(
            shown,
            ax=lower,
            orientation="horizontal",
            label="% of the maximum",
            extend="both",
            shrink=0.9,
        )
        name_axes(upper, name, "", "")
        name_axes(lower, "minus the smooth lens", "x / arcsec", "")
    for axes in panels[:, 0]:
        axes.set_ylabel("y / arcsec")
    if half_side_arcsec is not None:
        axes.set(xlim=(-half_side_arcsec, half_side_arcsec))
        axes.set(ylim=(-half_side_arcsec, half_side_arcsec))
    figure.suptitle(title or "Lenses and the effect of their substructure")
    return figure


@in_house_style
def histograms(panels: Mapping[str, ArrayLike], bins: int = 20, title: str = "") -> Figure:
    """Draw histograms side by side, with the same number of bins.

    Args:
        panels: quantity with its unit -> values.
        bins: number of bins.
        title: of the figure.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(4.4 * len(panels), 3.6))
    columns = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (quantity, values) in zip(columns, panels.items(), strict=True):
        axes.hist(np.asarray(values), bins, color=PALETTE[0], edgecolor="white", linewidth=0.5)
        axes.locator_params(axis="x", nbins=5)
        name_axes(axes, "", quantity, "")
    columns[0].set_ylabel("images")
    figure.suptitle(title or "Distribution")
    return figure


@in_house_style
def vortex_figure(
    mass_ev: ArrayLike, length_arcsec: ArrayLike, marks: Mapping[str, float], title: str = ""
) -> Figure:
    """Draw the length of the vortex against the axion mass, both on logarithmic axes.

    Args:
        mass_ev: shape (n,).
        length_arcsec: shape (n,), from the centre to one end.
        marks: name -> length in arcsec for comparison, drawn as a horizontal line.
        title: of the panel.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(6.2, 4.2))
    axes = figure.subplots()
    axes.loglog(mass_ev, length_arcsec, color="black", label="vortex, centre to end")
    for colour, (name, length) in zip(line_colours(len(marks)), marks.items(), strict=True):
        axes.axhline(length, color=colour, linestyle="--", label=f"{name}, {length:.2f} arcsec")
    name_axes(axes, title or "Length of the vortex", "axion mass / eV", "length / arcsec")
    axes.legend()
    return figure


@in_house_style
def similarity_figure(matrices: Mapping[str, ArrayLike], title: str = "") -> Figure:
    """Show matrices of cosine similarities side by side.

    Args:
        matrices: name -> shape (rows, columns), from -1 to 1.
        title: of the figure.

    Returns:
        The figure, all matrices on one scale from the smallest cosine to the largest; matrices
        with at most `MAX_NUMBERED_COLUMNS` columns also show their numbers.
    """
    low = min(float(np.min(matrix)) for matrix in matrices.values())
    high = max(float(np.max(matrix)) for matrix in matrices.values())
    figure = Figure(figsize=(4.2 * len(matrices) + 0.8, 4.4))
    columns = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (name, matrix) in zip(columns, matrices.items(), strict=True):
        matrix = np.asarray(matrix, float)
        shown = axes.imshow(matrix, cmap=MATRIX_COLOURS, vmin=low, vmax=high)
        _write_numbers(axes, matrix, (low + high) / 2)
        axes.locator_params(integer=True)
        axes.grid(False)
        name_axes(axes, name, "image", "image")
    figure.colorbar(shown, ax=list(columns), label="cosine", shrink=0.8)
    figure.suptitle(title or "Similarity")
    return figure


@in_house_style
def scores_above_chance(
    panels: Mapping[str, tuple[float, Mapping[str, float]]], title: str = ""
) -> Figure:
    """Draw scores as bars that begin at what chance gives.

    Args:
        panels: quantity -> (the score by chance, name -> score), with the same names in each.
        title: of the figure.

    Returns:
        The figure: a panel per quantity up to 1, one colour per name, and the number at
        each bar.
    """
    figure = Figure(figsize=(3.6 * len(panels) + 0.4, 4.0))
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (quantity, (chance, scores)) in zip(columns, panels.items(), strict=True):
        heights = [score - chance for score in scores.values()]
        bars = axes.bar(list(scores), heights, bottom=chance, color=line_colours(len(scores)))
        axes.bar_label(bars, [f"{score:.3f}" for score in scores.values()])
        axes.set_ylim(min(chance, *scores.values()), 1.0)
        name_axes(axes, "", "", quantity)
    figure.suptitle(title or "Scores above chance")
    return figure


@in_house_style
def feature_maps(
    points: Mapping[str, ArrayLike], quantities: Mapping[str, ArrayLike], title: str = ""
) -> Figure:
    """Draw maps of features, coloured by one quantity in each row.

    Args:
        points: encoder -> shape (n, 2), a column of panels each.
        quantities: name -> shape (n,), a row each: numbers, or names such as those of classes.
        title: of the figure.

    Returns:
        The figure; numbers have a colour bar, names a legend.
    """
    figure = Figure(figsize=(3.4 * len(points) + 1.6, 3.2 * len(quantities) + 0.6))
    panels = figure.subplots(len(quantities), len(points), squeeze=False)
    for row, (quantity, values) in zip(panels, quantities.items(), strict=True):
        for axes, (encoder, places) in zip(row, points.items(), strict=True):
            draw = _draw_names if np.asarray(values).dtype.kind in "OU" else _draw_numbers
            shown = draw(axes, np.asarray(places), np.asarray(values))
            axes.set(xticks=[], yticks=[])
            name_axes(axes, encoder, "", "")
        if shown is None:
            axes.legend(title=quantity, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=3)
        else:
            figure.colorbar(shown, ax=list(row), label=quantity)
    figure.suptitle(title or "Maps of features")
    return figure


def _draw_numbers(axes: Axes, places: np.ndarray, values: np.ndarray) -> PathCollection:
    return axes.scatter(places[:, 0], places[:, 1], c=values, s=6, cmap="viridis")


def _draw_names(axes: Axes, places: np.ndarray, values: np.ndarray) -> None:
    names = sorted(set(values))
    for name, colour in zip(names, line_colours(len(names)), strict=True):
        across, up = places[values == name].T
        axes.scatter(across, up, color=colour, s=6, label=name)


def _sky(
    axes: Axes,
    picture: np.ndarray,
    pixel_scale_arcsec: float,
    colours: str,
    limits: tuple[float, float],
) -> AxesImage:
    half_height, half_width = (side * pixel_scale_arcsec / 2 for side in picture.shape)
    axes.grid(False)
    return axes.imshow(
        picture,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",  # the first row of a simulated image has the smallest y
        extent=(-half_width, half_width, -half_height, half_height),
        interpolation="nearest",
    )


def _write_numbers(axes: Axes, matrix: np.ndarray, middle: float) -> None:
    if matrix.shape[1] > MAX_NUMBERED_COLUMNS:
        return
    for (row, column), value in np.ndenumerate(matrix):
        colour = "black" if value > middle else "white"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour)
