"""Grids of images, all in one colour map (`style.IMAGE_COLOURS`).

The first row of an image is drawn at the bottom, as is usual in astronomy: y points upwards.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.figures.picture_files import png_of
from deeplens_tf.figures.style import IMAGE_COLOURS, in_house_style


@in_house_style
def image_grid(
    images: Sequence[ArrayLike],
    titles: Sequence[str] | None = None,
    columns: int = 6,
    title: str = "",
    pixel_scale_arcsec: float | Sequence[float] | None = None,
) -> Figure:
    """Show images side by side, each scaled from its faintest to its brightest pixel.

    Args:
        images: n arrays of shape (H, W) or (H, W, bands). Three bands that differ are shown as
            red, green and blue; any other number of bands is shown as their mean.
        titles: n titles.
        columns: images in a row.
        title: of the figure.
        pixel_scale_arcsec: side of a pixel. One number draws a bar of 1 arcsec in the first
            image, a number for each image draws a bar in each; None draws no bar.

    Returns:
        The figure.

    Raises:
        ValueError: no images, or the number of titles or pixel scales differs from theirs.
    """
    pictures = [as_picture(image) for image in images]
    if not pictures or (titles is not None and len(titles) != len(pictures)):
        raise ValueError(
            "images must hold at least one image, and titles one for each. "
            f"Received: {len(pictures)} images, titles={titles}"
        )
    bars_arcsec = _bars(pixel_scale_arcsec, len(pictures))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.2, (2.15 if titles else 1.95) * rows + 0.7))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for k, axes in enumerate(panels):
        if k < len(pictures):
            show_picture(axes, pictures[k], limits_of(pictures[k]), titles[k] if titles else "")
            _draw_bar(axes, pictures[k], bars_arcsec[k])
        else:
            axes.remove()
    figure.suptitle(title or "Images")
    figure.supxlabel(f"{_size(pictures)}; each from its faintest to its brightest", fontsize=10)
    return figure


@in_house_style
def views_grid(
    images: ArrayLike,
    view_1: ArrayLike,
    view_2: ArrayLike,
    title: str = "",
    names: Sequence[str] | None = None,
    pixel_scale_arcsec: float | None = None,
) -> Figure:
    """Show each image in a row with its two augmented views, on the scale of the image.

    Args:
        images: shape (n, H, W) or (n, H, W, bands), before augmentation.
        view_1: the same shape.
        view_2: the same shape.
        title: of the figure.
        names: n names, one for each row.
        pixel_scale_arcsec: side of a pixel; draws a bar of 1 arcsec in the first image.

    Returns:
        The figure.

    Raises:
        ValueError: no images, unequal shapes, or a number of names that differs from n.
    """
    columns = {"image": images, "view 1": view_1, "view 2": view_2}
    figure = _rows(columns, title or "Images and their augmented views", names)
    _draw_bar(figure.axes[0], as_picture(np.asarray(images)[0]), pixel_scale_arcsec)
    return figure


@in_house_style
def inpainting_grid(
    images: ArrayLike, masked: ArrayLike, inpainted: ArrayLike, title: str = ""
) -> Figure:
    """Show each image in a row with its masked and its inpainted version.

    Args:
        images: shape (n, H, W) or (n, H, W, bands).
        masked: the same shape; the masked pixels are 0.
        inpainted: the same shape; the masked pixels are predicted.
        title: of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: no images, or unequal shapes.
    """
    columns = {"original": images, "masked": masked, "inpainted": inpainted}
    return _rows(columns, title or "Images, masked and inpainted")


def image_png(image: ArrayLike, max_side: int = 128) -> bytes:
    """Return one image as a PNG file without axes, drawn as in `image_grid`.

    Args:
        image: shape (H, W) or (H, W, bands).
        max_side: pixels of the picture's longer side; of a larger image every nth pixel is shown.
    """
    colours = image_colours(image)
    step = -(-max(colours.shape[:2]) // max_side)
    # Every nth row from the first row of the image, which is the last of the picture.
    return png_of(colours[::-1][::step, ::step][::-1])


def image_colours(image: ArrayLike, scale_of: ArrayLike | None = None) -> NDArray[np.uint8]:
    """Return one image as the colours of a picture's pixels, drawn as in `image_grid`.

    Args:
        image: shape (H, W) or (H, W, bands).
        scale_of: the image whose faintest and brightest pixels are the ends of the colours, as in
            `views_grid`; None for `image`.

    Returns:
        Shape (H, W, 3), the topmost row of the picture first.
    """
    picture = as_picture(image)
    limits = limits_of(picture if scale_of is None else as_picture(scale_of))
    scaled = _scaled(picture, limits)
    if scaled.ndim == 2:
        scaled = matplotlib.colormaps[IMAGE_COLOURS](scaled)[..., :3]
    return np.asarray(scaled[::-1] * 255, np.uint8)


def _rows(
    columns: Mapping[str, ArrayLike], title: str, row_names: Sequence[str] | None = None
) -> Figure:
    """Show row k of each column side by side, on the scale of the first."""
    stacks = [np.asarray(stack) for stack in columns.values()]
    shapes = [stack.shape for stack in stacks]
    if len(set(shapes)) != 1 or not len(stacks[0]):
        names = ", ".join(name.replace(" ", "_") for name in columns)
        raise ValueError(
            f"{names} must have one shape, with at least one image. Received: {shapes}"
        )
    examples = len(stacks[0])
    if row_names is not None and len(row_names) != examples:
        raise ValueError(
            f"names must hold one for each of {examples} rows. Received: {list(row_names)}"
        )
    figure = Figure(figsize=(len(columns) * 1.9 + 0.2, 1.95 * examples + 1.1))
    panels = figure.subplots(examples, len(columns), squeeze=False)
    for row in range(examples):
        pictures = [as_picture(stack[row]) for stack in stacks]
        for axes, picture in zip(panels[row], pictures, strict=True):
            show_picture(axes, picture, limits_of(pictures[0]))
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name)
    for axes, name in zip(panels[:, 0], row_names or (), strict=row_names is not None):
        axes.set_ylabel(name, fontsize=12)
    figure.suptitle(title)
    figure.supxlabel(f"{_size([pictures[0]])}; one brightness scale per row", fontsize=10)
    return figure


def as_picture(image: ArrayLike) -> NDArray[np.float64]:
    """Return shape (H, W), or (H, W, 3) for three bands that are not all equal."""
    pixels = np.asarray(image, np.float64)
    if pixels.ndim == 2:
        return pixels
    is_grey = (pixels == pixels[..., :1]).all()
    return pixels if pixels.shape[-1] == 3 and not is_grey else pixels.mean(axis=-1)


def limits_of(picture: NDArray[np.float64]) -> tuple[float, float]:
    """Return the faintest and the brightest value, apart."""
    low, high = float(picture.min()), float(picture.max())
    return low, high if high > low else low + 1.0


def _scaled(picture: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    low, high = limits
    return np.clip((picture - low) / (high - low), 0, 1)


def show_picture(
    axes: Axes, picture: NDArray[np.float64], limits: tuple[float, float], title: str = ""
) -> None:
    """Draw a picture in a panel, on a scale between two values."""
    scaled = _scaled(picture, limits)
    axes.imshow(scaled, cmap=IMAGE_COLOURS, vmin=0, vmax=1, origin="lower", interpolation="nearest")
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)


def _bars(
    pixel_scale_arcsec: float | Sequence[float] | None, images: int
) -> Sequence[float | None]:
    """Return the pixel scale of each image's bar, None for images without one."""
    if not isinstance(pixel_scale_arcsec, Sequence | np.ndarray):
        return [pixel_scale_arcsec, *[None] * (images - 1)]
    if len(pixel_scale_arcsec) != images:
        raise ValueError(
            "pixel_scale_arcsec must be one number or one for each image. "
            f"Received: {len(pixel_scale_arcsec)} for {images} images"
        )
    return pixel_scale_arcsec


def _draw_bar(axes: Axes, picture: NDArray[np.float64], pixel_scale_arcsec: float | None) -> None:
    """Draw a bar of 1 arcsec in the lower left corner."""
    if pixel_scale_arcsec is None:
        return
    height, width = picture.shape[:2]
    left, bottom, length = 0.05 * width, 0.05 * height, 1 / pixel_scale_arcsec
    axes.plot([left, left + length], [bottom, bottom], color="white", linewidth=2)
    axes.text(left, 1.8 * bottom, "1 arcsec", color="white", fontsize=8)


def _size(pictures: Sequence[NDArray[np.float64]]) -> str:
    sizes = {picture.shape[:2] for picture in pictures}
    return " by ".join(map(str, sizes.pop())) + " pixels" if len(sizes) == 1 else "several sizes"
