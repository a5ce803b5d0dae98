"""Images beside maps of what a network looks at in them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.figures.image_grids import as_picture, limits_of, show_picture
from deeplens_tf.figures.style import MATRIX_COLOURS, in_house_style

SIGNED_COLOURS = "coolwarm"
MAP_OPACITY = 0.55
PANELS = ("image", "map", "map on the image")


@in_house_style
def explanation_grid(
    images: ArrayLike, maps: ArrayLike, names: Sequence[str], measure: str, title: str = ""
) -> Figure:
    """Show each image in a row with its map, and with the map on top of the image.

    The colours of a map begin at 0, so that a uniform one looks uniform. If a map has values below
    0, those of all maps are centred at 0.

    Args:
        images: shape (n, H, W) or (n, H, W, bands).
        maps: shape (n, H, W).
        names: n names.
        measure: what a map shows, with its unit.
        title: of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: no images, or numbers or sizes that differ.
    """
    pictures = [as_picture(image) for image in np.asarray(images)]
    values = np.asarray(maps, np.float64)
    sizes = [picture.shape[:2] for picture in pictures]
    if not pictures or sizes != [each.shape for each in values] or len(names) != len(values):
        raise ValueError(
            "images, maps and names must be as many, at least one, and of one size. "
            f"Received: images of {np.shape(images)}, maps of {values.shape}, {len(names)} names"
        )
    is_signed = bool((values < 0).any())
    figure = Figure(figsize=(8.2, 2.15 * len(values) + 1.2))
    panels = figure.subplots(len(values), len(PANELS), squeeze=False)
    for axes, picture, each, name in zip(panels, pictures, values, names, strict=True):
        show_picture(axes[0], picture, limits_of(picture))
        axes[0].set_ylabel(name, fontsize=9)
        _draw_map(figure, axes[1], each, is_signed)
        grey = picture if picture.ndim == 2 else picture.mean(axis=-1)
        axes[2].imshow(grey, cmap="gray", origin="lower", interpolation="nearest")
        _draw_map(None, axes[2], each, is_signed, MAP_OPACITY)
    for axes, column in zip(panels[0], PANELS, strict=True):
        axes.set_title(column)
    figure.suptitle(title or "What the network looks at")
    figure.supxlabel(measure, fontsize=10)
    return figure


def _draw_map(
    figure: Figure | None,
    axes: Axes,
    values: NDArray[np.float64],
    is_signed: bool,
    opacity: float = 1.0,
) -> None:
    """Draw a map, with a colour bar where a figure is given."""
    top = float(np.abs(values).max()) or 1.0
    colours, low = (SIGNED_COLOURS, -top) if is_signed else (MATRIX_COLOURS, 0.0)
    look = {"origin": "lower", "interpolation": "nearest", "alpha": opacity}
    drawn = axes.imshow(values, cmap=colours, vmin=low, vmax=top, **look)  # type: ignore[arg-type]
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if figure is not None:
        bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.04, format="%.2g")
        bar.set_ticks([low, top] if not is_signed else [low, 0.0, top])
        bar.ax.tick_params(labelsize=8)
