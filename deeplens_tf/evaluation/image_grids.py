"""Grids of images, all in one colour map (`style.IMAGE_COLOURS`)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.evaluation.style import IMAGE_COLOURS, in_house_style


@in_house_style
def image_grid(
    images: Sequence[ArrayLike],
    titles: Sequence[str] | None = None,
    columns: int = 6,
    title: str = "",
) -> Figure:
    """Show images side by side, each from its own faintest to its own brightest pixel.

    Args:
        images: n arrays of shape (H, W) or (H, W, bands); three bands that differ are shown as
            red, green, blue, any other number as their mean.
        titles: n titles.
        columns: images in a row.
        title: of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: no images, or another number of titles.
    """
    pictures = [_picture(image) for image in images]
    if not pictures or (titles is not None and len(titles) != len(pictures)):
        raise ValueError(
            "image_grid needs at least one image, and one title for each where titles are given. "
            f"Received: {len(pictures)} images, titles={titles}"
        )
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.2, (2.15 if titles else 1.95) * rows + 0.7))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for k, axes in enumerate(panels):
        if k < len(pictures):
            _show(axes, pictures[k], _limits(pictures[k]), titles[k] if titles else "")
        else:
            axes.remove()
    figure.suptitle(title or "Images")
    figure.supxlabel(f"{_size(pictures)}; brightness scaled image by image", fontsize=10)
    return figure


@in_house_style
def views_grid(images: ArrayLike, view_1: ArrayLike, view_2: ArrayLike, title: str = "") -> Figure:
    """Show each image in a row with its two augmented views, on the image's own scale.

    Args:
        images: shape (n, H, W) or (n, H, W, bands), before augmentation.
        view_1: the same shape.
        view_2: the same shape.
        title: of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: no images, or unequal shapes.
    """
    columns = {"image": images, "view 1": view_1, "view 2": view_2}
    return _rows(columns, title or "Images and their augmented views")


@in_house_style
def inpainting_grid(
    images: ArrayLike, masked: ArrayLike, inpainted: ArrayLike, title: str = ""
) -> Figure:
    """Show each image in a row, what was left of it and what was made of that.

    Args:
        images: shape (n, H, W) or (n, H, W, bands).
        masked: the same shape; the dropped pixels are 0.
        inpainted: the same shape; the dropped pixels are predicted.
        title: of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: no images, or unequal shapes.
    """
    columns = {"original": images, "masked": masked, "inpainted": inpainted}
    return _rows(columns, title or "Images, masked and inpainted")


def _rows(columns: Mapping[str, ArrayLike], title: str) -> Figure:
    """Show row k of each column side by side, on the scale of the first."""
    stacks = [np.asarray(stack) for stack in columns.values()]
    shapes = [stack.shape for stack in stacks]
    if len(set(shapes)) != 1 or not len(stacks[0]):
        names = ", ".join(name.replace(" ", "_") for name in columns)
        raise ValueError(f"{names} must have one shape, of one image or more. Received: {shapes}")
    examples = len(stacks[0])
    figure = Figure(figsize=(len(columns) * 1.9 + 0.2, 1.95 * examples + 1.1))
    panels = figure.subplots(examples, len(columns), squeeze=False)
    for row in range(examples):
        pictures = [_picture(stack[row]) for stack in stacks]
        for axes, picture in zip(panels[row], pictures, strict=True):
            _show(axes, picture, _limits(pictures[0]))
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name)
    figure.suptitle(title)
    figure.supxlabel(f"{_size([pictures[0]])}; one brightness scale per row", fontsize=10)
    return figure


def _picture(image: ArrayLike) -> NDArray[np.float64]:
    """Return shape (H, W), or (H, W, 3) where three bands really are a colour image."""
    pixels = np.asarray(image, np.float64)
    if pixels.ndim == 2:
        return pixels
    is_grey = (pixels == pixels[..., :1]).all()
    return pixels if pixels.shape[-1] == 3 and not is_grey else pixels.mean(axis=-1)


def _limits(picture: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(picture.min()), float(picture.max())
    return low, high if high > low else low + 1.0


def _show(
    axes: Axes, picture: NDArray[np.float64], limits: tuple[float, float], title: str = ""
) -> None:
    low, high = limits
    scaled = np.clip((picture - low) / (high - low), 0, 1)
    axes.imshow(scaled, cmap=IMAGE_COLOURS, vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)


def _size(pictures: Sequence[NDArray[np.float64]]) -> str:
    sizes = {picture.shape[:2] for picture in pictures}
    return " by ".join(map(str, sizes.pop())) + " pixels" if len(sizes) == 1 else "several sizes"
