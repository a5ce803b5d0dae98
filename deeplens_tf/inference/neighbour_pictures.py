"""A grid of an image and its neighbours, read from the folder that was embedded."""

from collections.abc import Mapping, Sequence
from typing import Any

from deeplens_tf.errors import DataError
from deeplens_tf.figures.image_grids import image_grid
from deeplens_tf.inference.embedded_images import embedded_images

MAX_PICTURES = 60


def neighbour_grid(about: Mapping[str, Any], files: Sequence[str], titles: Sequence[str]) -> Any:
    """Return a figure of images of the embedded folder; None if none of them can be read.

    Args:
        about: of the embeddings.
        files: names of the images; those beyond `MAX_PICTURES` are left out.
        titles: of each.
    """
    wanted = list(files[:MAX_PICTURES])
    try:
        found = dict(embedded_images(about, wanted))
    except DataError:  # the folder has changed since
        return None
    pairs = zip(wanted, titles, strict=False)
    drawn = [(found[name], title) for name, title in pairs if name in found]
    if not drawn:
        return None
    images, shown = zip(*drawn, strict=True)
    return image_grid(images, shown, title="Nearest by cosine similarity")
