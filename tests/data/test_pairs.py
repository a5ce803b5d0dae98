"""Two images of one object as the two views: which, when, and the same from every kind of data."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import deeplens_tf as dl
from deeplens_tf.augment import Augment
from deeplens_tf.augment.randomness import two_of_each
from deeplens_tf.data import prepared_data, shards
from deeplens_tf.data.batches import pair_count, pretraining_batches, view_batches
from deeplens_tf.data.image_data import Share
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.objects import Objects
from deeplens_tf.data.prepared_data import dataset_facts, open_folder
from deeplens_tf.data.streams import Position
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import make_folder, random_image
from tests.data.object_folders import make_objects, naive_objects, naive_pairs, write_objects
from tests.data.test_held_split import assert_same
from tests.test_augment_randomness import KEYS, keys_of, words_of

SEED, BATCH = 5, 6
NOTHING, STAY_INSIDE = Augment([]), Augment(["flip", "rot90"])
ROTATION = Augment(["flip", "rotation"])
IMAGE_BYTES = 4 * 16 * 16


def opened(root, cache, **options):
    options = {"image_size": 16, "validation_fraction": 0.3, "seed": SEED} | options
    return open_folder(root, cache=cache, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("objects") / "d"
    make_objects(root)
    return root


@pytest.fixture
def data(folder, tmp_path, monkeypatch):
    """Objects in shards of at most seven images, shuffled in blocks of ten."""
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 7)
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", 10 * IMAGE_BYTES)
    found = opened(folder, tmp_path)
    assert len(found.manifest.splits["train"].shards) > 4
    return found


@pytest.fixture
def simple(folder, tmp_path):
    return opened(folder, tmp_path)


def test_the_table_of_a_split_is_read_once_for_all_uses_of_its_objects(simple, monkeypatch):
    read = []

    def read_and_count(folder, split, count):
        read.append(split)
        return read_index(folder, split, count)

    monkeypatch.setattr(prepared_data, "read_index", read_and_count)
    expected = Objects.of(simple.index("train")["object"])
    read.clear()
    for data in (simple, held(simple), replace(simple, share=Share(0, 2))):
        assert pair_count(data, "train", "object") == len(expected)
        assert np.array_equal(data.objects("train").members, expected.members)
        view_batches(data, NOTHING, BATCH, positives="object")
    assert read == ["train"]
    simple.objects("validation")
    assert read == ["train", "validation"]


def held(data):
    return data.in_memory(True, with_margin=True, report=False)


def indices_of_pairs(data, split, epoch=None):
    epoch = None if epoch is None else tf.constant(epoch, tf.int64)
    chunks = [data.indices(tf.reshape(each, [-1])).numpy() for each in data.pairs(split, epoch)]
    return [tuple(map(int, pair)) for pair in np.concatenate(chunks).reshape(-1, 2)]


def expected_pairs(data, split, epoch, block_size):
    counts = [shard.count for shard in data.manifest.splits[split].shards]
    names = data.index(split)["object"].tolist()
    return naive_pairs(names, counts, block_size, data.seed, epoch)


def test_the_two_draws_are_splitmixs_bit_for_bit():
    for count in (2, 3, 7, 2**31 - 1):
        found = two_of_each(keys_of(*KEYS), tf.fill([len(KEYS)], tf.constant(count, tf.int64)))
        for key, (first, second) in zip(KEYS, found.numpy().tolist(), strict=True):
            words = [word >> 32 for word in words_of(key, 2)]
            assert first == words[0] * count >> 32
            assert second == (first + 1 + (words[1] * (count - 1) >> 32)) % count
            assert first != second
    assert (two_of_each(keys_of(*KEYS), tf.ones([len(KEYS)], tf.int64)).numpy() == 0).all()


def test_all_ordered_pairs_of_an_object_are_equally_frequent():
    keys = tf.bitcast(
        tf.random.Generator.from_seed(0).uniform_full_int([6000], tf.uint64), tf.uint64
    )
    pairs = two_of_each(keys, tf.fill([6000], tf.constant(3, tf.int64))).numpy()
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 5 * 1000**0.5


@pytest.mark.parametrize("size", [100, 10, 1])  # of a block; an object may be larger than the last
def test_an_epoch_has_the_pairs_that_its_draws_say(data, monkeypatch, size):
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", size * IMAGE_BYTES)
    for epoch in (0, 1, 7):
        expected = expected_pairs(data, "train", epoch, size)
        for source in (data, held(data)):
            assert indices_of_pairs(source, "train", epoch) == expected


def test_arrays_have_the_pairs_that_their_draws_say():
    names = np.random.default_rng(0).choice([*"abcdef", ""], 40)
    images = np.stack([random_image(i) for i in range(40)])
    data = dl.data.from_arrays(images, objects=names, validation_fraction=0, seed=SEED)
    for epoch in (0, 3):
        found = indices_of_pairs(data, "train", epoch)
        # One block, which is numbered as the first, and no shards.
        assert found == naive_pairs(names.tolist(), [40], 40, SEED, epoch)


def test_every_object_comes_once_in_an_epoch_with_two_different_images(data):
    objects = naive_objects(data.index("train")["object"].tolist())
    object_of = {i: number for number, indices in enumerate(objects) for i in indices}
    epochs = [indices_of_pairs(data, "train", epoch) for epoch in range(4)]
    for pairs in epochs:
        assert sorted(object_of[first] for first, _ in pairs) == list(range(len(objects)))
        for first, second in pairs:
            assert object_of[first] == object_of[second]
            assert (first == second) == (len(objects[object_of[first]]) == 1)
    assert len({tuple(pairs) for pairs in epochs}) == 4
    sets = [{frozenset(pair) for pair in pairs} for pairs in epochs]
    assert len({frozenset(each) for each in sets}) > 1  # other images of the large objects
    assert any(pair[::-1] in epochs[1] for pair in epochs[0] if pair[0] != pair[1])


def test_other_splits_come_in_stored_order_as_epoch_0_chooses(data):
    for source in (data, held(data)):
        found = indices_of_pairs(source, "validation")
        chosen = expected_pairs(data, "validation", 0, 100)
        assert sorted(found) == sorted(chosen)
        firsts = [min(pair) for pair in found]
        objects = naive_objects(data.index("validation")["object"].tolist())
        numbers = [next(i for i, each in enumerate(objects) if first in each) for first in firsts]
        assert numbers == list(range(len(objects)))


def test_views_are_made_of_the_two_images_and_the_first_is_shown(data):
    index = data.index("train")
    images = np.stack([e["image"] for e in data.examples("train").as_numpy_iterator()])
    pairs = [expected_pairs(data, "train", epoch, 10) for epoch in (0, 1)]
    steps = len(pairs[0]) // BATCH
    stream = pretraining_batches(data, "train", STAY_INSIDE, BATCH, 2, positives="object")
    batches = list(stream.as_numpy_iterator())
    assert len(batches) == 2 * steps
    for number, batch in enumerate(batches):
        epoch, step = divmod(number, steps)
        first, second = np.transpose(pairs[epoch][step * BATCH : (step + 1) * BATCH])
        np.testing.assert_array_equal(batch["image"], images[first])
        np.testing.assert_array_equal(batch["label"], index["label"].to_numpy()[first])
        for view, indices in ((1, first), (2, second)):
            made = STAY_INSIDE.view(images[indices], tf.constant(indices), SEED, epoch, view)
            np.testing.assert_array_equal(batch[f"view_{view}"], made)


def test_an_object_of_one_image_has_the_views_of_that_image(simple):
    def by_image(positives):
        stream = pretraining_batches(simple, "train", STAY_INSIDE, 1, 1, positives=positives)
        return {b["image"].tobytes(): b for b in stream.as_numpy_iterator()}

    objects = naive_objects(simple.index("train")["object"].tolist())
    single = [indices[0] for indices in objects if len(indices) == 1]
    images = [e["image"] for e in simple.examples("train").as_numpy_iterator()]
    found, expected = by_image("object"), by_image("image")
    assert len(single) > 2
    for i in single:
        for key in ("view_1", "view_2"):
            ours, theirs = (each[images[i].tobytes()][key] for each in (found, expected))
            np.testing.assert_array_equal(ours, theirs)


MASKED = {"patches": 16, "masked_views": True}


@pytest.mark.slow
def test_held_images_make_the_same_batches_from_any_position_on(data):
    options = {"positives": "object", **MASKED}
    whole = list(pretraining_batches(data, "train", ROTATION, BATCH, 3, **options))
    steps = len(whole) // 3
    for source, epoch, step in ((data, 1, 2), (held(data), 0, 0), (held(data), 1, steps - 1)):
        start = Position(epoch, step)
        tail = pretraining_batches(source, "train", ROTATION, BATCH, 3, **options, start=start)
        assert_same(tail, whole[epoch * steps + step :])
    arguments = ("validation", NOTHING, 2, None)
    assert_same(
        pretraining_batches(held(data), *arguments, **options),
        pretraining_batches(data, *arguments, **options),
    )


def test_masks_of_the_second_view_follow_from_its_own_image(simple):
    stream = pretraining_batches(simple, "train", NOTHING, BATCH, 1, positives="object", **MASKED)
    one_by_one = pretraining_batches(simple, "train", NOTHING, 1, 1, **MASKED)
    of_image = {b["image"].tobytes(): b for b in one_by_one.as_numpy_iterator()}
    for batch in stream.as_numpy_iterator():
        for number in (1, 2):
            for view, order in zip(
                batch[f"view_{number}"], batch[f"patch_order_{number}"], strict=True
            ):
                expected = of_image[view.tobytes()][f"patch_order_{number}"][0]
                np.testing.assert_array_equal(order, expected)


def test_two_workers_have_the_halves_of_each_batch(data):
    def batches(source):
        return pretraining_batches(source, "train", NOTHING, BATCH, 2, positives="object")

    whole = list(batches(data))
    for source in (data, held(data)):
        halves = [list(batches(replace(source, share=Share(number, 2)))) for number in (0, 1)]
        joined = [
            {key: tf.concat([part[key] for part in parts], 0) for key in parts[0]}
            for parts in zip(*halves, strict=True)
        ]
        assert_same(joined, whole)


def test_bands_and_margins_are_those_of_single_images(folder, tmp_path):
    data = open_folder(
        folder,
        image_size=8,
        fit="crop",
        bands=3,
        validation_fraction=0.3,
        seed=SEED,
        cache=tmp_path,
    )
    assert data.margin
    stream = pretraining_batches(data, "train", Augment(["rotation"]), BATCH, 1, positives="object")
    source = next(iter(data.examples("train", with_margin=True).batch(100)))
    pairs = expected_pairs(data, "train", 0, 100)
    batch = next(iter(stream))
    _, second = np.transpose(pairs[:BATCH])
    wide = tf.gather(source["image_with_margin"], second)
    made = Augment(["rotation"]).view(wide, tf.constant(second), SEED, 0, 2, data.margin)
    np.testing.assert_allclose(batch["view_2"], made, atol=1e-6)
    assert batch["view_1"].shape == (BATCH, 8, 8, 3)


# Without objects


@pytest.fixture
def without(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 7)
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", 10 * IMAGE_BYTES)
    make_folder(tmp_path / "d", {"a": 20, "b": 20})
    return opened(tmp_path / "d", tmp_path / "cache")


@pytest.mark.parametrize("forced", [False, True], ids=["as it is", "as pairs"])
def test_without_a_table_pairs_of_an_object_are_views_of_one_image(without, monkeypatch, forced):
    if forced:  # the pairs of objects of one image each are the same batches
        monkeypatch.setattr(Objects, "have_pairs", True)
    for data in (without, held(without)):
        for split, epochs in (("train", 2), ("validation", None)):
            batches = [
                pretraining_batches(data, split, STAY_INSIDE, BATCH, epochs, positives=positives)
                for positives in ("object", "image")
            ]
            assert_same(*batches)


# What there was before there were objects.
EARLIER_INDEX = "11670dd4f6b8d9254f0b6f48c37ba4c891d0d2e92fe8859d75c6386c832f6cb0"
EARLIER_BATCHES = {
    "folder": (
        "69b102bb8c238d9f10ed0d6383b83ff38efb038ad2ddc36ff8cb56233ff9f899",
        "49171a76630af4787c1b226fcaa24a3c190c6359d633ce8f4572191b80720e86",
    ),
    "arrays": (
        "abb69c0ad71ad6bf1eb7f69842e302e001fd1df038d2040cb9019862492208a0",
        "8e99f1e2e38779c3c61adcc1fab445f01a7a48eb2169ba3c989cb4bcf907c5bd",
    ),
}


def digest(data, split, epochs):
    found = hashlib.sha256()
    for batch in pretraining_batches(data, split, Augment(["flip", "rot90"]), 4, epochs):
        for key in ("view_1", "view_2", "image", "label"):
            found.update(batch[key].numpy().tobytes())
    return found.hexdigest()


def test_views_of_one_image_are_what_they_were_before_there_were_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 8)
    monkeypatch.setattr(prepared_data, "SHUFFLE_BYTES", 10 * 8 * 8 * 4)
    generator, images, labels = np.random.default_rng(0), [], []
    for label, name in enumerate(("axion", "cdm", "no_sub")):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(12):  # of pixels that scaling leaves without a rounding error
            image = generator.integers(0, 32, (8, 8)).astype("float32")
            image[0, 0], image[1, 1] = 32, 0
            np.save(tmp_path / "d" / name / f"{name}_{i:02d}.npy", image)
            images.append(image)
            labels.append(label)
    data = opened(tmp_path / "d", tmp_path, image_size=8, validation_fraction=0.25, seed=3)
    arrays = dl.data.from_arrays(np.array(images), labels, validation_fraction=0.25, seed=3)
    for name, source in (("folder", data), ("folder", held(data)), ("arrays", arrays)):
        found = digest(source, "train", 2), digest(source, "validation", None)
        assert found == EARLIER_BATCHES[name]
    index = (data.folder / "train-index.csv").read_bytes()
    assert hashlib.sha256(index).hexdigest() == EARLIER_INDEX


# In Python


def test_view_batches_are_those_of_the_stream_and_count_objects(simple):
    count = pair_count(simple, "train", "object")
    assert count == len(naive_objects(simple.index("train")["object"].tolist()))
    batches = view_batches(simple, STAY_INSIDE, BATCH, positives="object")
    assert batches.cardinality() == count // BATCH
    stream = pretraining_batches(simple, "train", STAY_INSIDE, BATCH, 2, positives="object")
    assert_same([*batches, *batches], stream)
    few = view_batches(simple, NOTHING, 3, split="validation", positives="object")
    assert_same(
        few, pretraining_batches(simple, "validation", NOTHING, 3, None, positives="object")
    )


def test_what_cannot_be_is_refused(simple):
    with pytest.raises(ValueError, match="positives must be 'image' or 'object'"):
        view_batches(simple, NOTHING, 4, positives="lens")
    count = pair_count(simple, "train", "object")
    with pytest.raises(ValueError, match=f"from 1 to the {count} objects of the train split"):
        view_batches(simple, NOTHING, count + 1, positives="object")
    with pytest.raises(RequestError, match=r"pretrain\.positives must be image .* one view"):
        view_batches(simple, NOTHING, 4, positives="object", patches=4)


def test_a_table_whose_objects_are_not_together_is_refused(folder, tmp_path):
    data = opened(folder, tmp_path)
    path = data.folder / "train-index.csv"
    lines = path.read_text().splitlines()
    ends = [lines[1], lines[-1]]
    for line, name in zip(ends, ("x", "x"), strict=True):
        lines[lines.index(line)] = f"{line.rpartition(',')[0]},{name}"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="images of an object of the train split are not next to"):
        view_batches(data, NOTHING, 4, positives="object")


def test_a_run_records_which_images_show_one_object(folder, tmp_path):
    before = dataset_facts(opened(folder, tmp_path))["split_orders"]
    assert dataset_facts(opened(folder, tmp_path))["split_orders"] == before
    root = make_folder(tmp_path / "d", {"a": 12})
    names = [f"a/a_{i:04d}.npy" for i in range(12)]
    found = []
    for name in ("x", "y"):  # whatever the order
        write_objects(root, {names[0]: name})
        found.append(dataset_facts(opened(root, tmp_path / name))["split_orders"])
    assert found[0] != found[1]


def test_arrays_keep_an_object_in_one_split():
    names = np.repeat([f"lens {i}" for i in range(40)], 3)
    labels = np.repeat(np.arange(40) % 2, 3)
    images = np.stack([random_image(i) for i in range(120)])
    order = np.random.default_rng(0).permutation(120)
    data = dl.data.from_arrays(
        images[order], labels[order], objects=names[order], validation_fraction=0.2
    )
    train, validation = (data.index(split) for split in ("train", "validation"))
    assert not set(train["object"]) & set(validation["object"])
    assert validation["label"].value_counts().to_dict() == {0: 12, 1: 12}
    numbers = dl.data.from_arrays(images, objects=np.repeat(np.arange(40), 3))
    assert numbers.index("train")["object"].iloc[0] in {str(i) for i in range(40)}


def test_arrays_without_objects_split_as_with_objects_of_one_image():
    images = np.stack([random_image(i) for i in range(30)])
    plain, single = dl.data.from_arrays(images), dl.data.from_arrays(images, objects=np.arange(30))
    for split in ("train", "validation"):
        assert plain.index(split)["file"].tolist() == single.index(split)["file"].tolist()


@pytest.mark.parametrize(
    ("objects", "more", "expected"),
    [
        (["a"] * 3, {}, r"objects must have shape \(4,\)"),
        ([0.5] * 4, {}, "objects must be names or whole numbers. Received: float64"),
        ([*"aabb"], {"labels": [0, 1, 0, 1]}, "in one class. Received: objects with 'a' in two"),
        (
            [*"aabb"],
            {"test": [True, False, True, True]},
            "in one split. .* 'a' in two, images 0 and 1",
        ),
    ],
)
def test_objects_of_arrays_that_cannot_be_are_refused(objects, more, expected):
    images = np.stack([random_image(i) for i in range(4)])
    more = {key: np.array(value) for key, value in more.items()}
    with pytest.raises(ValueError, match=expected):
        dl.data.from_arrays(images, objects=objects, **more)
