import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.data import shards
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.record_files import write_records
from deeplens_tf.data.shards import (
    Example,
    parse_example,
    serialize,
    verify_shards,
    write_splits,
)
from deeplens_tf.errors import DataError, RequestError, ResourceError
from tests.data.image_folders import write_split

SHAPE = (8, 8, 2)


def examples(count):
    rng = np.random.default_rng(0)
    return [
        Example(
            rng.random(SHAPE, dtype="f4"),
            label=i % 3 - 1,
            mass_ev=10.0 ** (-24 + i / count) if i % 2 else math.nan,
            file=f"class/ä {i},\n.npy",
        )
        for i in range(count)
    ]


def read_back(folder, split):
    paths = [str(folder / shard.file) for shard in split.shards]
    return [parse_example(record, SHAPE) for record in tf.data.TFRecordDataset(paths)]


def write_manifest(folder, split):
    settings = PreparationSettings(8, "resize", 0.1, seed=0).to_dict()
    manifest = Manifest(("a", "b"), SHAPE, {"train": split}, "0" * 64, settings, rejected=2)
    manifest.save(folder)
    return manifest


def test_examples_are_read_back_exactly(tmp_path):
    written = examples(11)
    read = read_back(tmp_path, write_split(tmp_path, "train", written))
    for i, (example, parsed) in enumerate(zip(written, read, strict=True)):
        np.testing.assert_array_equal(parsed["image"], example.image)
        assert parsed["image"].dtype == tf.float32
        assert parsed["label"].numpy() == example.label
        np.testing.assert_equal(parsed["mass_ev"].numpy(), np.float64(example.mass_ev))
        assert parsed["index"].numpy() == i
        assert parsed["file"].numpy().decode() == example.file


def test_batches_are_parsed_like_single_records(tmp_path):
    split = write_split(tmp_path, "train", examples(7))
    paths = [str(tmp_path / shard.file) for shard in split.shards]
    batches = tf.data.TFRecordDataset(paths).batch(7).map(lambda batch: parse_example(batch, SHAPE))
    assert batches.element_spec["image"].shape == (None, *SHAPE)
    batch = next(iter(batches))
    for i, single in enumerate(read_back(tmp_path, split)):
        for key, value in single.items():
            np.testing.assert_array_equal(batch[key][i], value)
            assert batch[key].dtype == value.dtype
    one_by_one = tf.data.TFRecordDataset(paths).map(lambda record: parse_example(record, SHAPE))
    assert one_by_one.element_spec["image"].shape == SHAPE
    assert one_by_one.element_spec["mass_ev"].shape == ()


def test_equal_examples_give_equal_bytes():
    assert len({serialize(example, 5) for example in (*examples(1), *examples(1))}) == 1


def test_shards_keep_to_their_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 4)
    split = write_split(tmp_path, "train", examples(11))
    assert [shard.count for shard in split.shards] == [4, 4, 3]
    assert [int(one["index"]) for one in read_back(tmp_path, split)] == list(range(11))
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 1500)  # two images of 512 bytes and names
    split = write_split(tmp_path, "test", examples(11))
    assert max(shard.count for shard in split.shards) == 2
    assert sum(shard.count for shard in split.shards) == 11


def test_splits_count_their_classes_and_masses(tmp_path):
    pairs = [("train" if i % 2 else "test", one) for i, one in enumerate(examples(12))]
    splits = write_splits(tmp_path, ("a", "b"), (p for p in pairs if p[1].label >= 0))
    assert list(splits) == ["train", "test"]
    assert splits["train"].per_class == {"a": 2, "b": 2}
    assert (splits["train"].masses, splits["test"].masses) == (4, 0)


def test_the_index_lists_the_examples_of_a_split(tmp_path):
    written = examples(9)
    write_split(tmp_path, "train", written)
    index = read_index(tmp_path, "train", 9)
    assert list(index.columns) == ["index", "file", "label", "mass_ev", "content", "object"]
    assert index["index"].tolist() == list(range(9))
    assert index["file"].tolist() == [example.file for example in written]
    assert index["label"].tolist() == [example.label for example in written]
    np.testing.assert_array_equal(index["mass_ev"], [example.mass_ev for example in written])


def test_the_index_keeps_the_digest_of_each_image(tmp_path):
    digests = [f"{i:064x}" for i in range(3)]
    written = [
        replace(one, content=digest) for one, digest in zip(examples(3), digests, strict=True)
    ]
    write_split(tmp_path, "train", written)
    assert read_index(tmp_path, "train", 3)["content"].tolist() == digests


def test_an_index_of_an_earlier_version_has_no_digests(tmp_path):
    (tmp_path / "train-index.csv").write_text("index,file,label,mass_ev\n0,a.npy,1,\n")
    index = read_index(tmp_path, "train", 1)
    assert index["content"].tolist() == index["object"].tolist() == [""]
    assert list(index.columns) == ["index", "file", "label", "mass_ev", "content", "object"]


@pytest.mark.parametrize("content", ["x", "0" * 63, "A" * 64, "../" * 20, "\x1b[2J"])
def test_an_index_with_other_digests_is_unusable(tmp_path, content):
    text = f"index,file,label,mass_ev,content\n0,a.npy,1,,{content}\n"
    (tmp_path / "train-index.csv").write_text(text)
    with pytest.raises(DataError, match=r"train-index\.csv: a content is not SHA-256; prepare"):
        read_index(tmp_path, "train", 1)


def test_names_that_are_not_unicode_are_kept(tmp_path):
    name = b"a/\xff\xfe.npy".decode("utf-8", "surrogateescape")
    example = Example(np.zeros(SHAPE, "f4"), 0, math.nan, name)
    split = write_split(tmp_path, "train", [example], ("a",))
    assert read_back(tmp_path, split)[0]["file"].numpy() == b"a/\xff\xfe.npy"
    assert read_index(tmp_path, "train", 1)["file"][0] == name


def test_a_missing_or_damaged_index_is_unusable(tmp_path):
    with pytest.raises(DataError, match=r"train-index\.csv: cannot be read"):
        read_index(tmp_path, "train", 1)
    (tmp_path / "train-index.csv").write_text("index,file\n0,a\n")
    with pytest.raises(DataError, match=r"train-index\.csv: cannot be read"):
        read_index(tmp_path, "train", 1)


def test_an_index_of_another_length_is_unusable(tmp_path):
    write_split(tmp_path, "train", examples(9))
    for count in (0, 8, 10, 2**39):
        with pytest.raises(DataError, match=r"train-index\.csv: not the table of"):
            read_index(tmp_path, "train", count)


def test_changed_and_missing_shards_are_found(tmp_path):
    split = write_split(tmp_path, "train", examples(3))
    manifest = write_manifest(tmp_path, split)
    verify_shards(tmp_path, manifest)
    path = tmp_path / "train-00000.tfrecord"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00000\.tfrecord: changed"):
        verify_shards(tmp_path, manifest)
    path.unlink()
    with pytest.raises(DataError, match=r"train-00000\.tfrecord: missing"):
        verify_shards(tmp_path, manifest)


def test_a_full_disk_is_a_resource_error():
    with pytest.raises(ResourceError, match="/dev/full: cannot be written"):
        write_records(Path("/dev/full"), [bytes(10**6)])


# The manifest


def labelled(folder):
    return write_split(folder, "train", [e for e in examples(12) if e.label >= 0], ("a", "b"))


def test_the_manifest_is_read_back(tmp_path):
    manifest = write_manifest(tmp_path, labelled(tmp_path))
    assert Manifest.load(tmp_path) == manifest


def test_a_folder_without_manifest_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="not a prepared folder"):
        Manifest.load(tmp_path)


def set_in(values, path, value):
    *parents, last = path
    for key in parents:
        values = values[key]
    if value is None:
        del values[last]
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "other"),
        (["format_version"], 0),
        (["format_version"], 4),  # which has a key objects
        (["format_version"], 5),
        (["format_version"], True),
        (["format_version"], 2.0),
        (["format_version"], 1),  # which had no margin
        (["settings", "margin"], None),
        (["settings", "margin"], -1),
        (["settings", "margin"], 9),
        (["settings", "margin"], True),
        (["settings", "margin"], 2.0),
        (["settings", "margin"], "2"),
        (["settings", "image_size"], None),
        (["classes"], "ab"),
        (["classes"], ["a", "a"]),
        (["classes"], ["b", "a"]),
        (["image_shape"], [8, 8]),
        (["image_shape"], [8, 9, 2]),
        (["image_shape"], [0, 0, 2]),
        (["image_shape"], [8.0, 8, 2]),
        (["image_shape"], [4096, 4096, 2]),
        (["splits", "train", "per_class"], {"a": 8, "b": 0}),
        (["value_range"], [0, 255]),
        (["splits"], []),
        (["splits"], {}),
        (["splits", "train"], None),
        (["splits", "train", "count"], 7),
        (["splits", "train", "count"], None),
        (["splits", "train", "per_class"], {"a": 8}),
        (["splits", "train", "shards"], 3),
        (["splits", "train", "shards", 0, "file"], "../train-00000.tfrecord"),
        (["splits", "train", "shards", 0, "file"], "/etc/passwd"),
        (["splits", "train", "shards", 0, "count"], -8),
        (["splits", "train", "shards", 0, "sha256"], "x"),
        (["splits", "train", "masses"], True),
        (["fingerprint"], 3),
        (["settings"], []),
        (["rejected"], "none"),
        (["rejected"], None),
        (["left_out"], None),
        (["left_out"], {"other": 1}),
        (["left_out"], {"duplicate": -1}),
        (["left_out"], 3),
        (["duplicates"], {"test": "1"}),
        (["groups"], None),
        (["passed_over"], {".fits": True}),
        (["bands_left_out"], [1, 1]),
        (["bands_left_out"], [2, 1]),
        (["bands_left_out"], [-1]),
        (["bands_left_out"], ["1"]),
        (["bands_left_out"], None),
    ],
)
def test_a_damaged_manifest_is_unusable(tmp_path, path, value):
    write_manifest(tmp_path, labelled(tmp_path))
    values = json.loads((tmp_path / "manifest.json").read_text())
    set_in(values, path, value)
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"manifest\.json: damaged, .*; prepare the images again"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 200_000, "\xff", '{"format": 1}'])
def test_a_manifest_with_other_content_is_unusable(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="damaged"):
        Manifest.load(tmp_path)
