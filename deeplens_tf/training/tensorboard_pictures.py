"""What TensorBoard shows of a run besides its curves: views in some epochs, features at the end.

Both are in `tensorboard/pictures`: the projector finds its files beside a file of events.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.image_data import WHOLE
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.figures.image_grids import image_colours
from deeplens_tf.figures.projector_files import (
    thumbnail_side,
    thumbnails_of,
    write_projector_files,
)
from deeplens_tf.files.atomic_writing import writing
from deeplens_tf.probes.outputs import BATCH_SIZE, model_outputs
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder
from deeplens_tf.terminal import counted, print_lines

SHOWN_IMAGES = 6
SMALLEST_SIDE = 96  # pixels of an image in the picture; smaller ones are enlarged
GAP = 2  # pixels, white
VIEW_COLUMNS = ("image", "view_1", "view_2")
SPLIT = "validation"


class ViewPictures(keras.callbacks.Callback):
    """Writes a picture of the first images of an epoch with their views, as training has them.

    A row is an image, on one scale of brightness. It is drawn as in `views_grid`.

    Args:
        run: whose TensorBoard log it is.
        every_epochs: interval between pictures; the first is of epoch 0.
        batches: number of an epoch -> its batches from the first one on. It does not change those
            of the training.
    """

    def __init__(
        self, run: Run, every_epochs: int, batches: Callable[[int], tf.data.Dataset]
    ) -> None:
        super().__init__()
        self.folder, self.every_epochs, self.batches = _folder(run), every_epochs, batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the picture if it is due."""
        if epoch % self.every_epochs == 0:
            names, stacks = _columns_of(next(iter(self.batches(epoch))))
            picture = views_picture(stacks)
            with tf.summary.create_file_writer(str(self.folder)).as_default(step=epoch):
                tf.summary.image(", ".join(names), picture[None])


def views_picture(stacks: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return row k of each stack side by side, on the scale of the first, as a picture.

    Args:
        stacks: each of shape (n, H, W, bands).

    Returns:
        Shape (height, width, 3).
    """
    rows = [
        _joined([_enlarged(image_colours(image, images[0])) for image in images], axis=1)
        for images in zip(*stacks, strict=True)
    ]
    return _joined(rows, axis=0)


def write_embeddings(run: Run, product: Path, data: PreparedData, count: int) -> None:
    """Write the features of some validation images for TensorBoard's projector.

    Args:
        run: whose TensorBoard log it is.
        product: the file with the encoder.
        data: the images; the same ones are taken in each run, evenly spaced in their stored order.
        count: number of images, at most all.

    Raises:
        ResourceError: the folder cannot be written to.
    """
    data, total = replace(data, share=WHOLE), data.count(SPLIT)
    if not total:
        print_lines("logging.embedded_images: none; there are no validation images")
        return
    keep = np.zeros(total, bool)
    keep[np.linspace(0, total - 1, min(count, total)).astype(int)] = True
    features = model_outputs(load_encoder(product), data, SPLIT, keep, show_progress=False)
    side = min(thumbnail_side(len(features)), max(data.image_shape[:2]))
    images = (image for batch in image_batches(data, SPLIT, BATCH_SIZE, keep) for image in batch)
    folder = _folder(run)
    with writing(folder):
        tf.summary.create_file_writer(str(folder)).close()
        columns = _table(data, keep)
        write_projector_files(folder, features, columns, thumbnails_of(images, side))
    print_lines(f"projector: {counted(len(features), 'image')}: tensorboard --logdir {folder}")


def _folder(run: Run) -> Path:
    return run.tensorboard / "pictures"


def _columns_of(batch: Any) -> tuple[list[str], list[NDArray[Any]]]:
    """Return names and images of a batch: image and views, or the one view of a fine-tuning."""
    found = batch if isinstance(batch, dict) else {VIEW_COLUMNS[1]: batch[0]}
    present = [name for name in VIEW_COLUMNS if name in found]
    return present, [np.asarray(found[name][:SHOWN_IMAGES]) for name in present]


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = -(-SMALLEST_SIDE // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _joined(pictures: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for each in pictures for part in (gap, each)][1:], axis=axis)


def _table(data: PreparedData, keep: NDArray[np.bool_]) -> dict[str, list[object]]:
    """Return what is known of the images, by column."""
    index = data.index(SPLIT)[keep]
    columns: dict[str, list[object]] = {"file": index["file"].tolist()}
    if (index["label"] >= 0).any():
        columns["label"] = [data.classes[k] if k >= 0 else "" for k in index["label"]]
    if index["mass_ev"].notna().any():
        columns["mass_ev"] = [f"{mass:.6g}" if mass == mass else "" for mass in index["mass_ev"]]
    if (index["object"] != "").any():
        columns["object"] = index["object"].tolist()
    return columns
