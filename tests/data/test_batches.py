"""Batches: every example when and as often as it should come, with the views of its epoch."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from deeplens_tf.config import load_config
from deeplens_tf.data import prepared_data, shards
from deeplens_tf.data.batches import (
    image_batches,
    labelled_batches,
    pretraining_batches,
    require_batch,
)
from deeplens_tf.data.label_selection import label_subset
from deeplens_tf.data.prepared_data import dataset_facts, open_data
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.errors import DataError, RequestError
from tests.conftest import CLASSES

TRAIN = 45


@pytest.fixture(scope="module")
def config(blobs_words):
    return load_config("defaults", blobs_words)


@pytest.fixture(scope="module")
def blobs(config):
    return open_data(config)


@pytest.fixture
def sharded_blobs(config, tmp_path, monkeypatch):
    """The same images in shards of eight."""
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 8)
    cached = replace(config, data=replace(config.data, cache=str(tmp_path)))
    data = open_data(cached)
    assert len(data.manifest.splits["train"].shards) == 6
    return data


def test_a_run_records_the_images_and_the_order_that_they_are_kept_in(
    config, blobs, sharded_blobs, tmp_path
):
    def facts(**changes):
        seed = changes.pop("seed", config.seed)
        changed = replace(config, seed=seed, data=replace(config.data, **changes))
        found = dataset_facts(open_data(changed))
        return found["split_contents"], found["split_orders"]

    sharded = dataset_facts(sharded_blobs)  # it holds the next preparation to shards of eight, too
    assert facts(cache=str(tmp_path / "again")) == (
        sharded["split_contents"],
        sharded["split_orders"],
    )
    assert dataset_facts(blobs)["split_contents"] == sharded["split_contents"]
    assert dataset_facts(blobs)["split_orders"]["train"] != sharded["split_orders"]["train"]
    one, other = (facts(seed=seed, validation_fraction=0.0) for seed in (0, 1))
    assert one[0] == other[0]
    assert one[1]["train"] != other[1]["train"]


def index_of(batch):
    return batch["index"]


def epochs_of_indices(data, epochs, batch_size=9, **options):
    """The indices as they come, one row an epoch."""
    stream = labelled_batches(data, "train", index_of, batch_size, epochs=epochs, **options)
    indices = np.concatenate([batch.numpy() for _, batch in stream])
    return indices.reshape(epochs, -1)


def stored_images(data, split):
    return np.concatenate([batch.numpy() for batch in image_batches(data, split, 16)])


@pytest.mark.parametrize(("split", "count"), [("train", 45), ("validation", 15), ("test", 21)])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_each_image_of_a_split_comes_once_in_the_order_of_the_index(
    blobs, blobs_folder, split, count, batch_size
):
    batches = list(image_batches(blobs, split, batch_size))
    images, files = np.concatenate(batches), blobs.index(split)["file"]
    assert len(images) == len(files) == files.nunique() == count == blobs.count(split)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    root = blobs_folder.with_name("blobs_test") if split == "test" else blobs_folder
    for image, file in zip(images, files, strict=True):
        raw = np.load(root / file).astype("float32")
        expected = (raw - raw.min()) / (raw.max() - raw.min())
        np.testing.assert_allclose(image[..., 0], expected, atol=1e-6)


def test_chosen_images_come_in_the_order_of_the_index(blobs):
    keep = np.random.default_rng(0).random(TRAIN) < 0.4
    batches = image_batches(blobs, "train", 4, keep)
    assert batches.cardinality() == -(-keep.sum() // 4)
    np.testing.assert_array_equal(
        np.concatenate(list(batches)), stored_images(blobs, "train")[keep]
    )


def test_the_length_of_a_pass_is_known_beforehand(blobs):
    assert labelled_batches(blobs, "train", index_of, 10).cardinality() == 5
    whole = pretraining_batches(
        blobs, "train", build_augment(load_config("defaults").augment), 10, None
    )
    assert whole.cardinality() == 4


def test_an_epoch_holds_each_index_once_in_an_order_of_its_own(blobs):
    epochs = epochs_of_indices(blobs, 3)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(TRAIN))
        assert np.abs(np.diff(epoch)).mean() > TRAIN / 5  # shuffled, not merely rotated
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_run_repeats_its_order_and_another_seed_has_another(blobs):
    first = epochs_of_indices(blobs, 2)
    np.testing.assert_array_equal(first, epochs_of_indices(blobs, 2))
    # A longer run begins as the shorter one did.
    np.testing.assert_array_equal(first, epochs_of_indices(blobs, 3)[:2])
    assert (first != epochs_of_indices(replace(blobs, seed=1), 2)).any(axis=1).all()


@pytest.mark.parametrize("window", [1, 10, 45])
def test_windows_and_shards_still_give_a_permutation(sharded_blobs, monkeypatch, window):
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", window * 16 * 16 * 4)
    epochs = epochs_of_indices(sharded_blobs, 3)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(TRAIN))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    # A window of one leaves the shards' own order, eight records in a row.
    runs = (np.diff(epochs[0]) == 1).sum()
    assert runs >= 39 if window == 1 else runs < 20


def test_every_window_is_shuffled_in_its_own_way(blobs, monkeypatch):
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", 15 * 16 * 16 * 4)
    windows = epochs_of_indices(blobs, 1).reshape(3, 15) - [[0], [15], [30]]
    assert (np.sort(windows, axis=1) == np.arange(15)).all()
    assert len({tuple(window) for window in windows}) == 3


def test_what_is_left_over_at_an_epochs_end_is_dropped_not_carried_on(blobs):
    epochs = epochs_of_indices(blobs, 3, batch_size=10)
    assert epochs.shape == (3, 40)
    assert all(len(set(epoch)) == 40 for epoch in epochs)
    assert len({frozenset(epoch) for epoch in epochs}) == 3  # another five are left out


def test_only_chosen_indices_are_trained_on(blobs):
    keep = np.arange(TRAIN) % 5 == 0
    for epoch in epochs_of_indices(blobs, 2, batch_size=3, keep=keep):
        np.testing.assert_array_equal(np.sort(epoch), np.flatnonzero(keep))


def test_an_image_stays_with_its_target(blobs):
    stored = stored_images(blobs, "train")
    labels = blobs.index("train")["label"].to_numpy()
    stream = labelled_batches(
        blobs, "train", lambda batch: (batch["index"], batch["label"]), 9, epochs=2
    )
    for images, (indices, targets) in stream:
        np.testing.assert_array_equal(images, stored[indices.numpy()])
        np.testing.assert_array_equal(targets, labels[indices.numpy()])


def test_a_pretraining_batch_holds_the_views_of_its_epoch(blobs, config):
    stored, labels = stored_images(blobs, "train"), blobs.index("train")["label"].to_numpy()
    augment = build_augment(config.augment)
    batches = list(pretraining_batches(blobs, "train", augment, 9, epochs=2))
    assert len(batches) == 10
    for step, batch in enumerate(batches):
        assert set(batch) == {"view_1", "view_2", "image", "label"}
        differences = np.abs(stored[None] - batch["image"].numpy()[:, None]).max(axis=(2, 3, 4))
        indices = differences.argmin(axis=1)
        assert differences.min(axis=1).max() == 0
        np.testing.assert_array_equal(batch["label"], labels[indices])
        views = augment.two_views(batch["image"], tf.constant(indices), blobs.seed, step // 5)
        for name, view in zip(("view_1", "view_2"), views, strict=True):
            np.testing.assert_allclose(batch[name], view, atol=1e-6)


def test_the_view_that_is_fine_tuned_on_is_the_first(blobs, config):
    stored = stored_images(blobs, "train")
    augment = build_augment(config.augment)
    stream = labelled_batches(blobs, "train", index_of, 9, augment, epochs=2)
    for step, (images, indices) in enumerate(stream):
        plain = tf.constant(stored[indices.numpy()])
        views = augment.two_views(plain, indices, blobs.seed, step // 5)
        np.testing.assert_allclose(images, views[0], atol=1e-6)


def test_a_grey_image_is_repeated_over_the_bands_asked_for(config, blobs):
    coloured = open_data(replace(config, data=replace(config.data, bands=3)))
    assert coloured.image_shape == (16, 16, 3)
    images = stored_images(coloured, "validation")
    np.testing.assert_array_equal(images, np.repeat(stored_images(blobs, "validation"), 3, axis=-1))


def test_bands_that_differ_are_not_repeated(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((8, 8, 3)))
    words = [f"data.path={tmp_path}", f"data.cache={tmp_path}-cache", "data.image_size=8"]
    assert open_data(load_config("defaults", words)).image_shape == (8, 8, 3)
    with pytest.raises(RequestError, match=r"^data\.bands 4: the images have 3 bands, and only"):
        open_data(load_config("defaults", [*words, "data.bands=4"]))


def test_unlabelled_images_make_batches_without_labels(tmp_path):
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((8, 8)))
    words = [f"data.path={tmp_path}", f"data.cache={tmp_path}-cache", "data.image_size=8"]
    data = open_data(load_config("defaults", [*words, "data.validation_fraction=0"]))
    assert data.classes == ()
    assert (data.count("train"), data.count("validation"), data.count("test")) == (6, 0, 0)
    stream = pretraining_batches(
        data, "train", build_augment(load_config("defaults").augment), 3, epochs=1
    )
    assert all(set(batch) == {"view_1", "view_2", "image"} for batch in stream)


def test_the_data_say_what_they_are(blobs):
    assert blobs.classes == CLASSES
    assert blobs.image_shape == (16, 16, 1)
    assert list(blobs.index("train").columns[:3]) == ["index", "file", "label"]


@pytest.fixture
def index():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 20, 6]))
    return pd.DataFrame({"label": labels})


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5, 1.0])
def test_a_fraction_is_the_same_share_of_each_class(index, fraction):
    chosen = index["label"][label_subset(index, fraction, seed=0)].value_counts()
    for label, count in index["label"].value_counts().items():
        assert chosen[label] == max(1, round(fraction * count))


def test_a_smaller_fraction_lies_within_a_larger(index):
    smaller = np.zeros(len(index), bool)
    for fraction in (0.01, 0.1, 0.3, 0.7, 1.0):
        larger = label_subset(index, fraction, seed=3)
        assert (larger | ~smaller).all()
        smaller = larger


def test_the_choice_follows_from_the_seed(index):
    first = label_subset(index, 0.3, seed=0)
    np.testing.assert_array_equal(first, label_subset(index, 0.3, seed=0))
    assert (first != label_subset(index, 0.3, seed=1)).any()


def test_a_batch_may_be_as_large_as_the_data_and_no_larger():
    require_batch(8, 8, "training images")
    with pytest.raises(RequestError) as caught:
        require_batch(9, 8, "training images")
    assert str(caught.value) == (
        "train.batch_size 9 is larger than the 8 training images: set it to 8 or less"
    )


def test_an_empty_split_is_the_datas_fault(blobs):
    splits = {**blobs.manifest.splits}
    splits["train"] = replace(splits["train"], count=0, shards=())
    empty = replace(blobs, manifest=replace(blobs.manifest, splits=splits))
    with pytest.raises(DataError, match="Received: split='train'"):
        image_batches(empty, "train", 4)
