"""`objects.csv`: what is read of it, how a preparation keeps objects together, what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.data import csv_tables, shards
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.label_selection import label_subset
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.objects import Objects, objects_text
from deeplens_tf.data.preparing import ensure_prepared, prepare_folder
from deeplens_tf.data.relations import connected
from deeplens_tf.data.summary import summarise
from deeplens_tf.errors import DataError
from tests.data.image_folders import SETTINGS, make_folder
from tests.data.object_folders import make_objects, naive_objects, write_objects


def index_of(folder, split):
    return read_index(folder, split, Manifest.load(folder).splits[split].count)


def prepared(root, out, **changes):
    return prepare_folder(root, out, **SETTINGS | changes)


def test_a_prepared_folder_names_the_objects_and_counts_them(tmp_path):
    objects = make_objects(tmp_path / "d")
    manifest = prepared(tmp_path / "d", tmp_path / "out")
    assert manifest.objects == {"objects": len(set(objects.values())), "images": len(objects)}
    assert Manifest.load(tmp_path / "out") == manifest
    assert manifest.format_version == 4
    line = "objects.csv: 24 objects of 51 images, each in one split"
    assert line in summarise(manifest, tmp_path / "out")
    found = pd.concat([index_of(tmp_path / "out", split) for split in manifest.splits])
    assert dict(zip(found["file"], found["object"], strict=True)) == {
        name: objects.get(name, "") for name in found["file"]
    }
    assert manifest.passed_over == {}


def test_without_a_table_everything_is_written_as_it_was(tmp_path):
    make_folder(tmp_path / "d", {"a": 10, "b": 10})
    manifest = prepared(tmp_path / "d", tmp_path / "out")
    text = (tmp_path / "out" / "train-index.csv").read_text()
    assert text.startswith("index,file,label,mass_ev,content\n")
    values = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert values["format_version"] == manifest.format_version == 3
    assert "objects" not in values
    assert (index_of(tmp_path / "out", "train")["object"] == "").all()


@pytest.mark.parametrize("seed", range(3))
def test_images_of_an_object_follow_each_other_and_are_in_one_split_and_one_shard(
    tmp_path, monkeypatch, seed
):
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 7)
    objects = make_objects(tmp_path / "d")
    manifest = prepared(tmp_path / "d", tmp_path / "out", seed=seed, validation_fraction=0.3)
    seen = set()
    for name, split in manifest.splits.items():
        index = index_of(tmp_path / "out", name)
        assert not seen & (set(index["object"]) - {""})
        seen |= set(index["object"])
        ends = set(np.cumsum([shard.count for shard in split.shards]))
        for indices in naive_objects(index["object"].tolist()):
            assert indices == list(range(indices[0], indices[-1] + 1))
            assert not ends & set(indices[1:])
        assert all(1 < shard.count <= 7 for shard in split.shards[:-1])
    assert seen - {""} == set(objects.values())
    per_class = manifest.splits["validation"].per_class
    assert all(count in (4, 5, 6) for count in per_class.values())  # 5.4 of 18


def parts(relations, names):
    """The images that are on one side together, by merging sets until nothing changes."""
    sets = [{name} for name in names]
    for relation in relations:
        for label in set(relation.values()):
            of_label = {name for name, found in relation.items() if found == label}
            touched = [each for each in sets if each & of_label]
            sets = [each for each in sets if not each & of_label] + [set().union(*touched)]
    return sets


@pytest.mark.parametrize("seed", range(4))
def test_objects_and_groups_that_share_images_are_on_one_side_together(tmp_path, seed):
    root = make_folder(tmp_path / "d", {"a": 30, "b": 30})
    names = sorted(f"{path.parent.name}/{path.name}" for path in root.glob("*/*.npy"))
    generator = np.random.default_rng(seed)
    objects = {name: f"{name[0]}{generator.integers(12)}" for name in names}
    chosen = generator.permutation(names)[:20]
    groups = {str(name): str(generator.integers(9)) for name in chosen}
    write_objects(root, objects)
    rows = [f"{name},{group}" for name, group in groups.items()]
    (root / "groups.csv").write_text("\n".join(["file,group", *rows]) + "\n")
    manifest = prepared(root, tmp_path / "out", seed=seed, validation_fraction=0.2)
    side = {
        name: split
        for split in manifest.splits
        for name in index_of(tmp_path / "out", split)["file"]
    }
    assert set(side) == set(names)
    for part in parts([objects, groups], names):
        assert len({side[name] for name in part}) == 1


def test_connected_labels_are_those_of_merged_sets():
    generator = np.random.default_rng(0)
    for count in (1, 3, 30):
        pairs = [tuple(map(str, generator.integers(0, 40, 2))) for _ in range(count)]
        found = connected(pairs)
        sets = [{label} for pair in pairs for label in pair]
        for pair in pairs:
            touched = [each for each in sets if each & set(pair)]
            sets = [each for each in sets if not each & set(pair)] + [set().union(*touched)]
        assert {
            frozenset(label for label in found if found[label] == root) for root in found.values()
        } == {frozenset(each) for each in sets}


def test_test_images_of_an_object_in_training_are_left_out(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 8, "b": 8})
    test = make_folder(tmp_path / "d_test", {"a": 6, "b": 6}, start=500)
    write_objects(root, {"a/a_0000.npy": "lens 7", "a/a_0001.npy": "lens 7"})
    (root / "groups.csv").write_text("file,group\na/a_0001.npy,night 1\n")
    write_objects(test, {"a/a_0002.npy": "lens 7", "a/a_0003.npy": "lens 9"})
    (test / "groups.csv").write_text("file,group\na/a_0004.npy,night 1\n")
    manifest = prepared(root, tmp_path / "out", validation_fraction=0.0)
    assert manifest.left_out == {"object": 1, "group": 1}
    text = (tmp_path / "out" / "rejected.csv").read_text()
    assert "../d_test/a/a_0002.npy,object lens 7 is in training" in text
    assert "../d_test/a/a_0004.npy,group night 1 is in training" in text
    assert "1 of an object in training or validation" in summarise(manifest, tmp_path / "out")
    assert Manifest.load(tmp_path / "out") == manifest


def test_tables_of_the_shards_of_a_simulation_are_read_together(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 8})
    rows = {f"a/a_{i:04d}.npy": str(i // 2) for i in range(8)}
    write_objects(root, dict(list(rows.items())[:3]), "objects-1-of-2.csv")
    write_objects(root, dict(list(rows.items())[3:]), "objects-2-of-2.csv")
    assert prepared(root, tmp_path / "out").objects == {"objects": 4, "images": 8}
    write_objects(root, {"a/a_0001.npy": "0"}, "objects.csv")
    with pytest.raises(DataError, match=r"objects\.csv: 'a/a_0001\.npy' is listed twice"):
        prepared(root, tmp_path / "again")


def test_the_cache_is_prepared_again_when_the_table_changes(tmp_path):
    make_objects(tmp_path / "d")
    out = ensure_prepared(tmp_path / "d", tmp_path / "cache", **SETTINGS)
    before = Manifest.load(out)
    assert ensure_prepared(tmp_path / "d", tmp_path / "cache", **SETTINGS) == out
    write_objects(tmp_path / "d", {"a/a_0000.npy": "x", "a/a_0001.npy": "x"})
    assert ensure_prepared(tmp_path / "d", tmp_path / "cache", **SETTINGS) == out
    assert Manifest.load(out).objects == {"objects": 1, "images": 2}
    (tmp_path / "d" / "objects.csv").unlink()
    ensure_prepared(tmp_path / "d", tmp_path / "cache", **SETTINGS)
    assert Manifest.load(out).format_version == 3
    assert Manifest.load(out).splits != before.splits


def test_rows_that_name_no_image_are_counted_and_odd_names_are_kept(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 8})
    rows = ["\ufeff object , file", "NA, a/a_0000.npy", ' "1,5",a/a_0001.npy', "nan,a/a_0002.npy"]
    rows += ["x,a/none.npy", "linse µ 7,a/a_0003.npy", ",a/a_0004.npy", ""]
    (root / "objects.csv").write_text("\r\n".join(rows), encoding="utf-8", newline="")
    manifest = prepared(root, tmp_path / "out", validation_fraction=0.0)
    assert manifest.objects == {"objects": 4, "images": 4, "unknown": 1}
    index = index_of(tmp_path / "out", "train")
    found = dict(zip(index["file"], index["object"], strict=True))
    assert [found[f"a/a_{i:04d}.npy"] for i in range(6)] == [
        "NA",
        "1,5",
        "nan",
        "linse µ 7",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"file,group\na/a_0000.npy,1\n",
            r"objects\.csv: no column object; a table of objects needs",
        ),
        (b"file,object\na_0000.npy,1\n", r"no row names an image; .* such as a/a_0000\.npy"),
        (b"file,object\na/a_0000.npy,1\na/a_0000.npy,1\n", r"'a/a_0000\.npy' is listed twice"),
        (b"file,object\na/a_0000.npy,\xff\n", r"objects\.csv: not a CSV table"),
        ("file,object\na/a_0000.npy,1\n".encode("utf-16"), r"objects\.csv: not a CSV table"),
        (
            b"file,object\na/a_0000.npy,x\nb/b_0000.npy,x\n",
            r"object 'x' has images in the classes a and b",
        ),
        (
            b"file,object\na/a_0000.npy," + 201 * b"x",
            r"has the object 'x+\.*.*; the name of an object",
        ),
        (b"file,object\na/a_0000.npy,\x1b[2J\n", r"all of them printable"),
        (b"file,object\na/a_0000.npy,a\0b\n", r"all of them printable"),
        (b"", r"objects\.csv: no column file and object"),
    ],
)
def test_a_table_that_cannot_be_used_ends_the_preparation(tmp_path, content, expected):
    root = make_folder(tmp_path / "d", {"a": 4, "b": 4})
    (root / "objects.csv").write_bytes(content)
    with pytest.raises(DataError, match=expected):
        prepared(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_that_is_too_large_or_no_file_is_not_read(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "d", {"a": 4})
    table = root / "objects.csv"
    with table.open("wb") as stream:
        stream.truncate(csv_tables.MAX_TABLE_BYTES + 1)
    with pytest.raises(DataError, match=r"objects\.csv: larger than 64 MB"):
        prepared(root, tmp_path / "out")
    table.unlink()
    table.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"objects\.csv: not a regular file"):
        prepared(root, tmp_path / "out")


def test_an_object_that_no_shard_holds_is_refused(tmp_path, monkeypatch):
    make_objects(tmp_path / "d")
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 3)
    with pytest.raises(DataError, match=r"object '.6' has more images than a shard holds, 3 or"):
        prepared(tmp_path / "d", tmp_path / "out")
    monkeypatch.setattr(shards, "MAX_SHARD_EXAMPLES", 2048)
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 3000)  # two images of 16 x 16
    with pytest.raises(DataError, match=r"leave some out of objects\.csv, or set a smaller"):
        prepared(tmp_path / "d", tmp_path / "out")


def test_many_copies_of_a_row_do_not_take_memory(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 4})
    rows = "".join(f"none/{i}.npy,{i}\n" for i in range(20_000))
    (root / "objects.csv").write_text(f"file,object\na/a_0000.npy,1\n{rows}")
    assert prepared(root, tmp_path / "out").objects == {
        "objects": 1,
        "images": 1,
        "unknown": 20_000,
    }


# Objects in Python


def test_objects_are_those_of_naive_loops():
    names = np.random.default_rng(0).choice(["", "a", "b", "c"], 40).tolist()
    objects, expected = Objects.of(names), naive_objects(names)
    assert len(objects) == len(expected)
    found = np.split(objects.members, objects.starts[1:])
    assert [indices.tolist() for indices in found] == expected
    assert not Objects.of(["a", "", "", "b"]).have_pairs


def test_the_text_names_the_most_frequent_number_first():
    assert objects_text(Objects.of([*"aabbccdd", ""])) == "4 objects of 2 images, 1 of 1"
    assert objects_text(Objects.of(["", ""])) == "2 objects of 1 image"
    assert objects_text(Objects.of([*"aaa"])) == "1 object of 3 images"


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 1.0])
def test_a_fraction_of_the_labels_counts_objects_and_brings_all_of_their_images(fraction):
    generator = np.random.default_rng(1)
    names = [f"o{i}" if i % 4 else "" for i in generator.integers(0, 60, 200)]
    labels = [int(name[1:]) % 3 if name else int(generator.integers(3)) for name in names]
    index = pd.DataFrame({"label": labels, "object": names})
    keep = label_subset(index, fraction, seed=2)
    for label in range(3):
        rows = np.flatnonzero(index["label"] == label)
        objects = naive_objects([names[row] for row in rows])
        chosen = [{bool(keep[rows[i]]) for i in indices} for indices in objects]
        assert all(len(each) == 1 for each in chosen)
        assert chosen.count({True}) == max(1, round(fraction * len(objects)))
    without = pd.DataFrame({"label": labels})
    np.testing.assert_array_equal(
        label_subset(without, fraction, 2), label_subset(without.assign(object=""), fraction, 2)
    )


@pytest.mark.parametrize("value", [None, 3, {"objects": -1}, {"objects": "3"}])
def test_a_manifest_with_other_counts_of_objects_is_damaged(tmp_path, value):
    make_objects(tmp_path / "d")
    prepared(tmp_path / "d", tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"objects": value}))
    with pytest.raises(DataError, match=r"manifest\.json: damaged, objects"):
        Manifest.load(tmp_path / "out")
