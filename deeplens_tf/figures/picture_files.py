"""Writing figures to files."""

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplens_tf.files.atomic_writing import draft_file

NO_DATE: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Producer": None},
}
"""Metadata to leave out, by file extension, so that the same figure gives the same bytes."""

JPEG: dict[str, Any] = {"quality": 85, "subsampling": 0}  # each pixel has its own color


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure completely or not at all; the same figure gives the same bytes.

    Args:
        figure: the figure.
        path: ends in `.png` or `.pdf`.

    Raises:
        ValueError: another extension.
        OSError: the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.suffix not in NO_DATE:
        raise ValueError(f"path must end in {' or '.join(NO_DATE)}. Received: path={path}")
    with draft_file(path, path.suffix) as draft:
        figure.savefig(draft, metadata=NO_DATE[path.suffix], dpi=150)


def png_of(picture: NDArray[np.uint8]) -> bytes:
    """Return the colours of a picture's pixels, shape (H, W, 3), as a PNG file."""
    content = BytesIO()
    matplotlib.image.imsave(content, picture, format="png", metadata=NO_DATE[".png"])
    return content.getvalue()


def jpeg_of(picture: NDArray[np.uint8]) -> bytes:
    """Return the colors of a picture's pixels, shape (H, W, 3), as a JPEG file."""
    content = BytesIO()
    matplotlib.image.imsave(content, picture, format="jpg", pil_kwargs=JPEG)
    return content.getvalue()
