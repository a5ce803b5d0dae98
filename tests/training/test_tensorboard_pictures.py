"""Pictures of views in TensorBoard: when, of which images, and in which place."""

import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.figures.image_grids import image_grid
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.training.tensorboard_pictures import GAP, SHOWN_IMAGES, ViewPictures, views_picture

SIDE, TIMES = 32, 3  # of an image, and how much it is enlarged
RANDOM = np.random.default_rng(0)


def batches_of(epoch):
    """One batch of nine images; a view is the image times a number that tells the epoch."""
    images = np.random.default_rng(epoch).random((9, SIDE, SIDE, 1), np.float32)
    views = {"image": images, "view_2": images * 0.25, "view_1": images * 0.5}
    return tf.data.Dataset.from_tensors(views)


def pictures(run, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run.tensorboard / "pictures")).Reload()
    events = read.Tensors(tag)
    return {each.step: tf.io.decode_png(each.tensor_proto.string_val[2]).numpy() for each in events}


@pytest.mark.slow
def test_tensorboard_has_the_images_of_the_due_epochs_with_their_views(tmp_path):
    run = Run(tmp_path)
    callback = ViewPictures(run, 2, batches_of)
    for epoch in range(4):
        callback.on_epoch_begin(epoch)
    found = pictures(run, "image, view_1, view_2")
    assert list(found) == [0, 2]
    place = SIDE * TIMES + GAP
    for epoch, picture in found.items():
        assert picture.shape == (SHOWN_IMAGES * place - GAP, 3 * place - GAP, 3)
        (batch,) = batches_of(epoch).as_numpy_iterator()
        for row in range(SHOWN_IMAGES):
            (shown,) = image_grid([batch["image"][row]]).axes[0].images
            for column, factor in enumerate((1, 0.5, 0.25)):
                top, left = row * place, column * place
                tile = picture[top : top + SIDE * TIMES : TIMES, left : left + SIDE * TIMES : TIMES]
                pixels = batch["image"][row, ::-1, :, 0] * factor
                scaled = (pixels - batch["image"][row].min()) / np.ptp(batch["image"][row])
                colours = shown.cmap(np.clip(scaled, 0, 1), bytes=True)[..., :3]
                assert tile.astype(int) == pytest.approx(colours.astype(int), abs=1)


def test_a_fine_tuning_shows_its_one_view(tmp_path):
    batch = tf.data.Dataset.from_tensors((RANDOM.random((2, 8, 8, 3)), [0, 1]))
    ViewPictures(Run(tmp_path), 1, lambda epoch: batch).on_epoch_begin(0)
    assert list(pictures(Run(tmp_path), "view_1")) == [0]


def test_images_are_apart_by_white_lines():
    picture = views_picture([np.zeros((2, 200, 100, 1))] * 2)
    assert picture.shape == (400 + GAP, 200 + GAP, 3)
    assert (picture[200 : 200 + GAP] == 255).all() and (picture[:, 100 : 100 + GAP] == 255).all()
