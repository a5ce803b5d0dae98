"""Images in memory: the same interface, the same scaling, and new views in each epoch of `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf.augment import Augment
from deeplens_tf.data.batches import image_batches, pretraining_batches, view_batches
from deeplens_tf.preprocessing.scaling import resize_and_scale

COUNT = 24


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(COUNT, 8, 8)).astype("float32") * 50


@pytest.fixture
def labels():
    return np.arange(COUNT) % 3


def outlier(value):
    images = np.random.default_rng(1).random((COUNT, 8, 8))
    images[3, 0, 0] = value
    return images


def test_each_image_is_in_one_split_and_scaled_as_a_folders_images(images, labels):
    data = dl.data.from_arrays(images, labels, validation_fraction=0.25)
    assert (data.count("train"), data.count("validation"), data.count("test")) == (18, 6, 0)
    assert data.image_shape == (8, 8, 1)
    seen = {}
    for split in ("train", "validation"):
        batches = np.concatenate(list(image_batches(data, split, 5)))
        seen |= dict(zip(data.index(split)["file"], batches, strict=True))
    for i, image in enumerate(images):
        expected = resize_and_scale(image[..., None], 8, "resize")
        np.testing.assert_array_equal(seen[f"images[{i}]"], expected)


def test_the_split_has_the_same_fraction_of_each_class_and_follows_from_the_seed(images, labels):
    found = [
        dl.data.from_arrays(images, labels, seed=seed).index("validation") for seed in (0, 0, 1)
    ]
    assert sorted(found[0]["label"]) == [0, 1, 2]
    assert found[0].equals(found[1])
    assert not found[0].equals(found[2])


def test_names_stand_for_labels_and_masses_for_their_powers(images):
    names = np.array(["no_sub", "axion"])[np.arange(COUNT) % 2]
    log10_mass = np.where(names == "axion", -23.5, np.nan)
    data = dl.data.from_arrays(images, names, log10_mass)
    assert data.classes == ("axion", "no_sub")
    index = data.index("train")
    np.testing.assert_allclose(index["mass_ev"][index["label"] == 0], 10**-23.5)
    assert index["mass_ev"][index["label"] == 1].isna().all()


def test_the_test_split_is_the_one_that_is_given(images, labels):
    data = dl.data.from_arrays(images, labels, test=np.arange(COUNT) >= 20)
    assert list(data.index("test")["file"]) == [f"images[{i}]" for i in range(20, COUNT)]


def test_without_labels_batches_have_none(images):
    data = dl.data.from_arrays(images)
    assert data.classes == ()
    (batch,) = view_batches(data, Augment(["flip"]), 20)
    assert set(batch) == {"view_1", "view_2", "image"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.ones((3, 8))}, "images must be real numbers of shape"),
        ({"images": np.ones((3, 8, 8), complex)}, "type complex128"),
        ({"images": np.ones((COUNT, 8, 9))}, "image_size must be given"),
        (
            {"images": np.full((COUNT, 8, 8), np.nan)},
            r"images\[0\] cannot be used: 64 values are not finite",
        ),
        ({"images": np.ones((COUNT, 8, 8))}, r"images\[0\] cannot be used: constant"),
        ({"images": outlier(-9999)}, r"images\[3\] cannot be used: 1 of 64 values is far from the"),
        (
            {"images": np.ones((COUNT, 3, 8, 8))},
            "axes .n, height, width.* 3 x 8 pixels, at least 8",
        ),
        (
            {"images": np.ones((COUNT, 16, 20, 24))},
            "Received: shape .*, 24 bands of 16 x 20 pixels",
        ),
        ({"images": np.ones((COUNT, 1024, 8))}, "the pixels of one image a row"),
        ({"labels": [0, 1]}, r"labels must have shape \(24,\). Received: shape \(2,\)"),
        ({"labels": np.full(COUNT, -1)}, "labels must be class names or indices from 0"),
        ({"labels": np.full(COUNT, 0.5)}, "labels must be class names or indices from 0"),
        ({"class_names": ["a", "b"]}, "labels must be below the 2 class_names. Received: 2"),
        (
            {"labels": ["x"] * COUNT, "class_names": ["a"]},
            "must contain every label. Received: 'x'",
        ),
        ({"labels": np.arange(COUNT) % 2 + 1}, "from 0, without a gap, .* Received: no label 0"),
        ({"class_names": ["a", "b", "a"]}, "class_names must differ from each other"),
        ({"log10_mass": np.full(COUNT, -400.0)}, "log10_mass must be the log10 of masses in eV"),
        ({"log10_mass": np.full(COUNT, 1e-22)}, "log10_mass must be the log10 of masses in eV"),
        ({"log10_mass": np.full(COUNT, -40.5)}, "from -40 to 3. Received: values from -40.5"),
        ({"log10_mass": np.full(COUNT, 12.4)}, "from -40 to 3. Received: values from 12.4 to 12.4"),
        ({"validation_fraction": 0.95}, "validation_fraction must be 0 to 0.9"),
        ({"image_size": 0}, "image_size must be a whole number from 8 to 4096. Received: .*=0"),
        ({"image_size": 16.0}, r"image_size must be a whole number from .*image_size=16\.0"),
        ({"image_size": True}, "image_size must be a whole number from .*image_size=True"),
        ({"seed": 1.0}, r"seed must be a whole number of at least 0. Received: seed=1\.0"),
        ({"seed": False}, "seed must be a whole number of at least 0. Received: seed=False"),
        ({"validation_fraction": False}, "validation_fraction must be 0 to 0.9. .*=False"),
        ({"validation_fraction": "0.1"}, "validation_fraction must be 0 to 0.9. .*='0.1'"),
        ({"fit": "stretch"}, "fit must be resize or crop. Received: fit='stretch'"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(images, labels, changes, message):
    with pytest.raises(ValueError, match=message):
        dl.data.from_arrays(**{"images": images, "labels": labels, **changes})


def test_numpys_numbers_are_pythons(images, labels):
    data = dl.data.from_arrays(images, labels, image_size=np.int64(16), seed=np.uint8(3))
    same = dl.data.from_arrays(images, labels, image_size=16, seed=3)
    assert data.image_shape == (16, 16, 1)
    np.testing.assert_array_equal(data.images, same.images)
    assert data.table.equals(same.table)
    batches = view_batches(data, Augment(["flip"]), np.int64(10))
    expected = view_batches(same, Augment(["flip"]), 10)
    for ours, theirs in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(ours["view_2"], theirs["view_2"])


@pytest.mark.parametrize("batch_size", [8.0, True, "8", None, 0, 1000])
def test_a_batch_size_that_is_no_whole_number_in_range_is_refused(images, labels, batch_size):
    data = dl.data.from_arrays(images, labels)
    with pytest.raises(ValueError, match=r"batch_size must be a whole number from 1 to the \d+"):
        view_batches(data, Augment(["flip"]), batch_size)


def test_each_epoch_of_fit_has_the_views_of_its_number(images, labels):
    data, augment = dl.data.from_arrays(images, labels), Augment(["brightness", "flip"])
    stream = pretraining_batches(data, "train", augment, 5, epochs=3)
    expected = [batch["view_1"].numpy() for batch in stream]
    batches = view_batches(data, augment, 5)
    assert len(batches) == 4
    shown = []

    class Recorder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, batch):
            return self.dense(keras.ops.reshape(batch["view_1"], (-1, 64)))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            shown.append(np.array(x["view_1"]))
            return keras.ops.mean(y_pred)

    model = Recorder()
    model.compile("sgd", run_eagerly=True)
    model.fit(batches, epochs=3, shuffle=False, verbose=0)
    for view, wanted in zip(shown[-12:], expected, strict=True):
        np.testing.assert_array_equal(view, wanted)


def test_a_later_first_epoch_continues_and_a_peek_changes_nothing(images):
    data, augment = dl.data.from_arrays(images), Augment(["flip", "rot90"])
    expected = [b["view_2"].numpy() for b in pretraining_batches(data, "train", augment, 5, 3)]
    batches = view_batches(data, augment, 5, first_epoch=2)
    next(iter(batches))
    for batch, wanted in zip(batches, expected[8:], strict=True):
        np.testing.assert_array_equal(batch["view_2"], wanted)


def test_other_splits_come_in_stored_order_and_a_batch_too_large_is_refused(images, labels):
    data = dl.data.from_arrays(images, labels, validation_fraction=0.25)
    batches = view_batches(data, Augment([]), 3, split="validation")
    shown = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(shown, data.index("validation")["label"])
    with pytest.raises(ValueError, match="from 1 to the 6 images of the validation split"):
        view_batches(data, Augment([]), 7, split="validation")
    with pytest.raises(ValueError, match="from 1 to the 6 images"):
        view_batches(data, Augment([]), 0, split="validation")
    with pytest.raises(ValueError, match=r"train or validation. Received: split='valid'"):
        view_batches(data, Augment([]), 3, split="valid")
    with pytest.raises(ValueError, match=r"augment must be an Augment. Received: \['flip'\]"):
        view_batches(data, ["flip"], 3)


def test_a_graph_refers_to_the_images_instead_of_containing_them(images):
    data = dl.data.from_arrays(np.repeat(images, 50, 0))

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])
    def count(epoch):
        return data.examples("train", epoch).reduce(0, lambda n, example: n + 1)

    graph = count.get_concrete_function().graph.as_graph_def()
    assert graph.ByteSize() < data.images.nbytes / 10
    assert count(0) == data.count("train")


def test_patch_orders_replace_the_second_view(images):
    (batch,) = view_batches(dl.data.from_arrays(images), Augment([]), 20, patches=4)
    assert np.sort(batch["patch_order"], axis=1).tolist() == [[0, 1, 2, 3]] * 20
    assert "view_2" not in batch


def test_a_band_that_is_constant_in_every_image_is_left_out():
    images = np.random.default_rng(0).random((10, 16, 16, 4))
    images[..., 3] = 1
    data = dl.data.from_arrays(images)
    assert data.image_shape == (16, 16, 3)
    np.testing.assert_array_equal(data.images, dl.data.from_arrays(images[..., :3]).images)


def test_an_image_that_is_constant_in_a_band_of_others_is_an_error():
    images = np.random.default_rng(0).random((10, 16, 16, 3))
    images[4, ..., 0] = 0
    with pytest.raises(ValueError, match=r"images\[4\] cannot be used: band 1 of 3 is constant"):
        dl.data.from_arrays(images)


def test_the_index_has_the_digest_of_each_image():
    images = np.random.default_rng(0).integers(0, 99, (4, 16, 16)).astype("<i2")
    first = dl.data.from_arrays(images, validation_fraction=0).index("train")
    other = dl.data.from_arrays(images.astype(">f8"), validation_fraction=0).index("train")
    assert first["content"].tolist() == other["content"].tolist()
    assert first["content"].nunique() == 4
    assert first["content"].str.fullmatch("[0-9a-f]{64}").all()
