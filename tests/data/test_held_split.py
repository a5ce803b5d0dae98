"""Images held in memory: the batches are those that are read from the shards, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.augment import Augment
from deeplens_tf.config import load_config
from deeplens_tf.data import prepared_data, shards
from deeplens_tf.data.batches import (
    image_batches,
    labelled_batches,
    pretraining_batches,
    view_batches,
)
from deeplens_tf.data.image_data import Share
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.streams import Position
from deeplens_tf.data.view_making import view_margin
from deeplens_tf.errors import DataError

STAY_INSIDE, ROTATION = Augment(["flip", "rot90"]), Augment(["flip", "rotation"])
BATCH = 8


def opened(words, tmp_path, monkeypatch, *more):
    """Images in shards of eight, shuffled in blocks of ten of their size without a margin."""
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 8)
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", 10 * 16 * 16 * 4)
    return open_data(load_config("defaults", [*words, f"data.cache={tmp_path}", *more]))


@pytest.fixture(params=[(), ("data.bands=3",), ("data.image_size=8", "data.fit=crop")])
def blobs(request, blobs_words, tmp_path, monkeypatch):
    return opened(blobs_words, tmp_path, monkeypatch, *request.param)


@pytest.fixture
def grey(blobs_words, tmp_path, monkeypatch):
    return opened(blobs_words, tmp_path, monkeypatch)


def held(data, augment=STAY_INSIDE, wanted=True):
    return data.in_memory(wanted, with_margin=view_margin(data, augment) > 0)


def assert_same(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        tf.nest.assert_same_structure(one, other)
        for values, wanted in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
            assert values.dtype == wanted.dtype
            np.testing.assert_array_equal(values, wanted)


@pytest.mark.parametrize("augment", [STAY_INSIDE, ROTATION], ids=["inside", "rotation"])
def test_views_are_the_same_in_each_epoch_from_a_position_on(blobs, augment):
    assert len(blobs.manifest.splits["train"].shards) > 2
    in_memory = held(blobs, augment)
    for options in (
        ("train", augment, BATCH, 3, 0, Position(1, 3)),
        ("validation", augment, BATCH, None),
    ):
        assert_same(pretraining_batches(in_memory, *options), pretraining_batches(blobs, *options))


def test_labels_and_masses_of_chosen_images_are_the_same(grey):
    def target(batch):
        return batch["label"], batch["mass_ev"], batch["index"]

    keep = np.arange(grey.count("train")) % 3 > 0
    options = ("train", target, BATCH, ROTATION, 2, keep)
    assert_same(labelled_batches(held(grey, ROTATION), *options), labelled_batches(grey, *options))


def test_each_worker_has_its_share(grey):
    for number in range(2):
        one = replace(grey, share=Share(number, 2))
        options = ("train", STAY_INSIDE, BATCH, 2)
        assert_same(pretraining_batches(held(one), *options), pretraining_batches(one, *options))


def test_view_batches_and_images_are_the_same(grey):
    assert_same(view_batches(held(grey), STAY_INSIDE, BATCH), view_batches(grey, STAY_INSIDE, 8))
    for split in ("train", "validation", "test"):  # the test split is not held
        assert_same(image_batches(held(grey), split, 7), image_batches(grey, split, 7))


def test_what_fits_is_held_and_the_log_says_so(grey, monkeypatch, capsys):
    assert set(held(grey, wanted=None).held) == {"train", "validation"}
    assert capsys.readouterr().out == "images: held in memory; decoded they take 0.1 MiB\n"
    size = (45 + 15) * 16 * 16 * 4
    monkeypatch.setattr(prepared_data, "HELD_BYTES", size)
    assert held(grey, wanted=None).held
    monkeypatch.setattr(prepared_data, "HELD_BYTES", size - 1)
    capsys.readouterr()
    assert held(grey, wanted=None) is grey
    line = "images: read from the shards in each epoch; decoded they take 0.1 MiB\n"
    assert capsys.readouterr().out == line


def test_the_choice_can_be_overridden(grey, monkeypatch):
    assert held(grey, wanted=False) is grey
    monkeypatch.setattr(prepared_data, "HELD_BYTES", 1)
    assert held(grey, wanted=True).held


def test_only_what_views_are_made_from_is_held(blobs_words, tmp_path, monkeypatch):
    data = opened(blobs_words, tmp_path, monkeypatch, "data.image_size=8", "data.fit=crop")
    wide, central = (
        held(data, augment).held["train"].images for augment in (ROTATION, STAY_INSIDE)
    )
    assert central.shape[1:] == (8, 8, 1)
    assert wide.shape[1:] == (8 + 2 * data.margin, 8 + 2 * data.margin, 1)
    with pytest.raises(ValueError, match="held without a margin"):
        next(iter(pretraining_batches(held(data), "train", ROTATION, BATCH, 1)))


def test_a_changed_shard_is_named(grey):
    path = grey.folder / grey.manifest.splits["train"].shards[1].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name}: changed since it was written"):
        held(grey)
