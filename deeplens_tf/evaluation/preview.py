"""A preview of the augmentations: images next to the two views that pretraining uses."""

from pathlib import Path

import numpy as np

from deeplens_tf.config import Config
from deeplens_tf.data.batches import pair_count, pretraining_batches
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.figures.image_grids import views_grid
from deeplens_tf.figures.picture_files import save_figure

ROWS = 4
MAX_BATCH = 256


def draw_preview(config: Config, path: Path) -> None:
    """Draw a few training images of each class with their views of the first epoch.

    Args:
        config: names the data, the augmentations and what the two views are made of.
        path: of the figure, .png or .pdf.

    Raises:
        RequestError: no such data.
        DataError: the images cannot be used.
    """
    data = open_data(config)
    positives = config.pretrain.positives
    size = min(pair_count(data, "train", positives), MAX_BATCH)
    augment = build_augment(config.augment)
    stream = pretraining_batches(data, "train", augment, size, None, positives=positives)
    batch = next(iter(stream))
    rows = _some_of_each(batch["label"].numpy() if data.classes else np.zeros(size, int))
    image, view_1, view_2 = (batch[key].numpy()[rows] for key in ("image", "view_1", "view_2"))
    title = f"Augmentations: {', '.join(config.augment.views) or 'none'}"
    names = [data.classes[k] for k in batch["label"].numpy()[rows]] if data.classes else None
    save_figure(views_grid(image, view_1, view_2, title=title, names=names), path)


def _some_of_each(labels: np.ndarray) -> np.ndarray:
    """Return rows of a batch, equally many of each class."""
    per_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([rows[: max(1, ROWS // len(per_label))] for rows in per_label])
