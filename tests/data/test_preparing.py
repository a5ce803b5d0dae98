import csv
import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.data import image_reader, preparing
from deeplens_tf.data.folders import scan_folder
from deeplens_tf.data.formats.image_formats import READ_TEXT
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.preparing import ensure_prepared, prepare_folder
from deeplens_tf.data.shards import (
    parse_example,
    verify_shards,
)
from deeplens_tf.data.source_files import RECORDS_FILE, read_records
from deeplens_tf.data.splitting import SplitAssigner, shuffled, validation_count
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.scaling import resize_and_scale
from tests.data.image_folders import SETTINGS, make_folder, random_image, tree_digest, write_pair


@pytest.fixture
def source(tmp_path):
    return make_folder(tmp_path / "lenses", {"axion": 30, "cdm": 20, "no_sub": 11})


def make_unusable(path):
    path.write_text("text, renamed")


def rejected(folder, name="rejected.csv"):
    with (folder / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def digests(manifest):
    return [shard.sha256 for split in manifest.splits.values() for shard in split.shards]


def all_examples(folder, split):
    manifest = Manifest.load(folder)
    paths = [str(folder / shard.file) for shard in manifest.splits[split].shards]
    for record in tf.data.TFRecordDataset(paths):
        yield parse_example(record, manifest.image_shape)


# Content of the prepared folder


def test_every_image_is_in_one_split_with_its_values(source, tmp_path):
    manifest = prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert manifest == Manifest.load(tmp_path / "out")
    assert manifest.classes == ("axion", "cdm", "no_sub")
    assert manifest.image_shape == (16, 16, 1)
    seen = {}
    for split in ("train", "validation"):
        for i, example in enumerate(all_examples(tmp_path / "out", split)):
            name = example["file"].numpy().decode()
            assert name not in seen
            seen[name] = split
            expected = resize_and_scale(np.load(source / name)[..., None], 16, "resize")
            np.testing.assert_array_equal(example["image"], expected)
            assert manifest.classes[int(example["label"])] == name.split("/")[0]
            assert int(example["index"]) == i
            assert math.isnan(example["mass_ev"])
    assert set(seen) == {f"{p.parent.name}/{p.name}" for p in source.glob("*/*.npy")}


def test_splits_are_stratified(source, tmp_path):
    splits = prepare_folder(source, tmp_path / "out", **SETTINGS).splits
    assert list(splits) == ["train", "validation"]
    assert splits["validation"].per_class == {"axion": 3, "cdm": 2, "no_sub": 1}
    assert splits["train"].per_class == {"axion": 27, "cdm": 18, "no_sub": 10}


def test_examples_are_not_in_the_order_of_their_classes(source, tmp_path):
    splits = prepare_folder(source, tmp_path / "out", **SETTINGS).splits
    labels = read_index(tmp_path / "out", "train", splits["train"].count)["label"]
    assert (np.diff(labels) != 0).sum() > 20


@pytest.mark.parametrize(
    ("size", "fraction", "expected"),
    [(1, 0.5, 0), (2, 0.1, 1), (2, 0.9, 1), (10, 0.1, 1), (100, 0.1, 10), (9, 0.0, 0), (3, 0.9, 2)],
)
def test_the_number_of_validation_images(size, fraction, expected):
    assert validation_count(size, fraction) == expected


def test_the_order_depends_only_on_names_and_seed(source):
    files = scan_folder(source).files
    assert shuffled(files, 3) == shuffled(files[::-1], 3)
    assert shuffled(files, 3) != shuffled(files, 4)
    fewer = [file for file in shuffled(files, 3) if file.label]
    assert fewer == shuffled([file for file in files if file.label], 3)


def test_a_class_of_two_has_one_image_in_each_split(source):
    files = [file for file in scan_folder(source).files if file.label == 0][:2]
    assigner = SplitAssigner(files, 0.1)
    assert [assigner.assign(file) for file in files] == ["train", "validation"]


def test_without_a_fraction_there_is_no_validation_split(source, tmp_path):
    settings = SETTINGS | {"validation_fraction": 0.0}
    splits = prepare_folder(source, tmp_path / "out", **settings).splits
    assert list(splits) == ["train"]
    assert not list((tmp_path / "out").glob("validation*"))


def test_the_same_source_gives_the_same_bytes(source, tmp_path):
    shutil.copytree(source, tmp_path / "copy", copy_function=shutil.copyfile)
    first = prepare_folder(source, tmp_path / "out1", **SETTINGS)
    second = prepare_folder(tmp_path / "copy", tmp_path / "out2", **SETTINGS)
    third = prepare_folder(source, tmp_path / "out3", **SETTINGS | {"seed": 1})
    assert first.fingerprint == second.fingerprint  # the copy has other times only
    assert digests(first) == digests(second)
    assert not set(digests(first)) & set(digests(third))
    index = (tmp_path / "out1" / "train-index.csv").read_bytes()
    assert index == (tmp_path / "out2" / "train-index.csv").read_bytes()


@pytest.mark.parametrize("damage", [None, "copy", "text"])
def test_worker_processes_change_nothing(source, tmp_path, monkeypatch, damage):
    if damage == "copy":  # of a contradiction, which is found when both have been read
        shutil.copy(source / "axion" / "axion_0003.npy", source / "cdm" / "copy.npy")
    elif damage == "text":
        for i in range(9):
            make_unusable(source / "axion" / f"axion_{i:04d}.npy")
    monkeypatch.setattr(preparing, "FILES_PER_PROCESS", 10)
    monkeypatch.setattr(image_reader, "FILES_PER_TASK", 7)
    outcomes = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs) / "out"
        try:
            prepare_folder(source, out, jobs=jobs, **SETTINGS)
        except DataError as error:
            outcomes.append(str(error).replace(str(out), ""))
            continue
        files = {path.name: path.read_bytes() for path in out.iterdir()}
        records = read_records(out / RECORDS_FILE, 100)
        del files[RECORDS_FILE]  # with the time of reading
        digests = [(name, record.sha256) for name, record in records.items()]
        outcomes.append((files, digests))
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], str) == (damage == "text")


def test_a_number_of_jobs_below_one_is_a_wrong_request(source, tmp_path):
    with pytest.raises(RequestError, match="jobs must be at least 1"):
        prepare_folder(source, tmp_path / "out", jobs=0, **SETTINGS)


def test_the_source_is_not_changed(source, tmp_path):
    make_unusable(source / "axion" / "axion_0003.npy")
    before = tree_digest(source)
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert tree_digest(source) == before


def test_mixed_sizes_become_one_size_if_asked(source, tmp_path):
    np.save(source / "axion" / "large.npy", random_image(0, (40, 25)))
    np.save(source / "cdm" / "small.npy", random_image(1, (1, 9, 30)))
    manifest = prepare_folder(source, tmp_path / "out", **SETTINGS, mixed_sizes=True)
    assert manifest.image_shape == (16, 16, 1)
    assert manifest.rejected == 0


def test_an_unlabelled_folder_has_no_labels(tmp_path):
    for i in range(20):
        (tmp_path / "images").mkdir(exist_ok=True)
        np.save(tmp_path / "images" / f"{i}.npy", random_image(i, (3, 16, 16)))
    manifest = prepare_folder(tmp_path / "images", tmp_path / "out", **SETTINGS)
    assert manifest.classes == ()
    assert manifest.image_shape == (16, 16, 3)
    assert manifest.splits["validation"].count == 2
    assert manifest.splits["train"].per_class == {}
    assert {int(one["label"]) for one in all_examples(tmp_path / "out", "train")} == {-1}
    assert Manifest.load(tmp_path / "out") == manifest


def test_the_test_folder_becomes_the_test_split(source, tmp_path):
    make_folder(tmp_path / "lenses_test", {"axion": 4, "cdm": 3, "no_sub": 2}, start=500)
    manifest = prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert manifest.splits["test"].per_class == {"axion": 4, "cdm": 3, "no_sub": 2}
    assert sorted(read_index(tmp_path / "out", "test", 9)["file"])[0] == "axion/axion_0000.npy"


def test_masses_come_from_files_and_tables(tmp_path):
    root = make_folder(tmp_path / "d", {"axion": 0, "cdm": 5, "vortex": 4}, start=100)
    for i in range(6):
        write_pair(root / "axion" / f"a{i}.npy", random_image(i), 1e-24 * (i + 1))
    rows = "".join(f"vortex_{i:04d}.npy,{i + 1}e-23\n" for i in range(4))
    (root / "vortex" / "masses.csv").write_text("file,mass_ev\n" + rows)
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    masses = {}
    for split in ("train", "validation"):
        frame = read_index(tmp_path / "out", split, manifest.splits[split].count)
        masses |= dict(zip(frame["file"], frame["mass_ev"], strict=True))
    assert masses["axion/a3.npy"] == 4e-24
    assert masses["vortex/vortex_0002.npy"] == 3e-23
    assert math.isnan(masses["cdm/cdm_0000.npy"])
    assert sum(split.masses for split in manifest.splits.values()) == 10


@pytest.mark.parametrize("position", [0, 29])
def test_a_file_without_mass_is_rejected_if_others_of_its_class_have_one(
    position, tmp_path, capsys
):
    root = make_folder(tmp_path / "d", {"axion": 0, "cdm": 5}, start=100)
    for i in range(30):
        write_pair(root / "axion" / f"a{i:02d}.npy", random_image(i), 1e-24 * (i + 1))
    np.save(root / "axion" / f"a{position:02d}.npy", random_image(position))
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert rejected(tmp_path / "out") == [
        {
            "file": f"axion/a{position:02d}.npy",
            "reason": "no mass, although other files of its class have one",
        }
    ]
    assert sum(split.masses for split in manifest.splits.values()) == 29
    assert sum(split.per_class["cdm"] for split in manifest.splits.values()) == 5
    capsys.readouterr()
    prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert "up to date, kept; 1 file left out, see " in capsys.readouterr().out


def test_images_without_classes_may_or_may_not_have_masses(tmp_path):
    (tmp_path / "d").mkdir()
    np.save(tmp_path / "d" / "plain.npy", random_image(0))
    write_pair(tmp_path / "d" / "pair.npy", random_image(1), 1e-23)
    assert prepare_folder(tmp_path / "d", tmp_path / "out", **SETTINGS).rejected == 0


# Rejected files


def test_what_appears_in_the_folder_meanwhile_is_kept(source, tmp_path, monkeypatch):
    out, write = tmp_path / "out", preparing.write_draft

    def slow_write(*arguments):
        out.mkdir()
        (out / "precious.txt").touch()
        return write(*arguments)

    monkeypatch.setattr(preparing, "write_draft", slow_write)
    with pytest.raises(OSError, match="not empty"):
        prepare_folder(source, out, **SETTINGS)
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def test_one_bad_file_among_many_is_listed_and_left_out(source, tmp_path, capsys):
    make_unusable(source / "cdm" / "cdm_0005.npy")
    manifest = prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert manifest.rejected == 1
    assert rejected(tmp_path / "out") == [
        {"file": "cdm/cdm_0005.npy", "reason": f"text, not an image: {READ_TEXT}"}
    ]
    assert sum(split.per_class["cdm"] for split in manifest.splits.values()) == 19
    assert capsys.readouterr().err.splitlines() == [
        f"1 of 61 files rejected, the first: cdm/cdm_0005.npy: text, not an image: {READ_TEXT}; "
        f"all are listed in {tmp_path / 'out' / 'rejected.csv'}"
    ]


def test_rejected_test_files_are_listed_with_their_folder(source, tmp_path):
    make_folder(tmp_path / "lenses_test", {"axion": 4, "cdm": 3, "no_sub": 2}, start=500)
    make_unusable(tmp_path / "lenses_test" / "cdm" / "cdm_0001.npy")
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert rejected(tmp_path / "out")[0]["file"] == "../lenses_test/cdm/cdm_0001.npy"


def test_images_next_to_the_class_folders_are_rejected(source, tmp_path):
    np.save(source / "mean.npy", random_image(0))
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert rejected(tmp_path / "out") == [{"file": "mean.npy", "reason": "not in a class folder"}]


@pytest.mark.parametrize(
    ("files", "bad", "too_many"), [(40, 3, False), (40, 4, True), (80, 4, False)]
)
def test_more_than_three_and_more_than_a_twentieth_are_too_many(tmp_path, files, bad, too_many):
    root = make_folder(tmp_path / "d", {"a": files // 2, "b": files // 2})
    for path in sorted((root / "a").iterdir())[:bad]:
        make_unusable(path)
    before = names_in(tmp_path)
    if not too_many:
        assert prepare_folder(root, tmp_path / "out", **SETTINGS).rejected == bad
        return
    expected = "4 of 40 files rejected, the first: .*; at most 3 files or 5 % of all may be"
    with pytest.raises(DataError, match=expected):
        prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert names_in(tmp_path) == [*before, "out-rejected.csv"]
    listed = rejected(tmp_path, "out-rejected.csv")
    assert [row["file"] for row in listed] == [f"a/a_{i:04d}.npy" for i in range(bad)]


def test_strict_allows_no_rejected_file(source, tmp_path):
    make_unusable(source / "cdm" / "cdm_0005.npy")
    with pytest.raises(DataError, match=r"1 of 61 files .*cdm_0005.*--strict forbids"):
        prepare_folder(source, tmp_path / "out", **SETTINGS, strict=True)
    assert names_in(tmp_path) == ["lenses"]
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    with pytest.raises(DataError, match="its preparation rejected 1 file "):
        prepare_folder(source, tmp_path / "out", **SETTINGS, strict=True)
    with pytest.raises(DataError, match="--strict forbids"):
        ensure_prepared(tmp_path / "out", tmp_path / "cache", **SETTINGS, strict=True)


def test_a_class_without_usable_images_stops_the_preparation(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 40, "b": 2})
    for path in (root / "b").iterdir():
        make_unusable(path)
    with pytest.raises(DataError, match=r"d/b: no usable image in it; 2 of 42 .*b/b_0000\.npy"):
        prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert names_in(tmp_path) == ["d", "out-rejected.csv"]


def test_a_folder_without_usable_images_stops_the_preparation(tmp_path):
    (tmp_path / "d").mkdir()
    make_unusable(tmp_path / "d" / "a.npy")
    with pytest.raises(DataError, match="d: no usable image in it; 1 of 1"):
        prepare_folder(tmp_path / "d", tmp_path / "out", **SETTINGS)


def test_a_rejected_image_does_not_empty_validation(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 4, "b": 4})
    for path in sorted((root / "a").iterdir())[:2]:
        make_unusable(path)
    splits = prepare_folder(root, tmp_path / "out", **SETTINGS).splits
    assert (splits["train"].per_class["a"], splits["validation"].per_class["a"]) == (1, 1)


def test_different_bands_stop_the_preparation(source, tmp_path):
    np.save(source / "cdm" / "colour.npy", random_image(0, (3, 16, 16)))
    with pytest.raises(DataError, match=r"bands differ: .*\.npy has \d, .*\.npy has \d"):
        prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert names_in(tmp_path) == ["lenses"]


def test_a_damaged_table_stops_the_preparation(source, tmp_path):
    (source / "cdm" / "masses.csv").write_text("file,mass\n")
    with pytest.raises(DataError, match=r"masses\.csv: no column mass_ev"):
        prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert names_in(tmp_path) == ["lenses"]


# The output folder


def test_an_up_to_date_folder_is_kept(source, tmp_path, capsys):
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    before = tree_digest(tmp_path / "out")
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert tree_digest(tmp_path / "out") == before
    assert "up to date, kept" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["files", "another", "file", "stale", "damaged"])
def test_nothing_is_overwritten(source, tmp_path, kind):
    out = tmp_path / "out"
    if kind == "files":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif kind == "file":
        out.write_text("years of work")
    else:
        prepare_folder(source, out, **SETTINGS | {"image_size": 8 if kind == "another" else 16})
    if kind == "stale":
        np.save(source / "cdm" / "new.npy", random_image(0))
    if kind == "damaged":
        (out / "manifest.json").write_text("{")
    before = tree_digest(tmp_path)
    expected = {
        "files": "already contains files",
        "file": "is a file",
        "another": r"another preparation \(image_size 8\)",
        "stale": r"another preparation \(of other source files\)",
        "damaged": r"another preparation \(damaged\)",
    }
    with pytest.raises(RequestError, match=expected[kind]):
        prepare_folder(source, out, **SETTINGS)
    assert tree_digest(tmp_path) == before


def test_an_empty_folder_may_be_the_output(source, tmp_path):
    (tmp_path / "out").mkdir()
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert Manifest.load(tmp_path / "out")


def test_parent_folders_are_created(source, tmp_path):
    prepare_folder(source, tmp_path / "new" / "deep" / "out", **SETTINGS)
    assert names_in(tmp_path / "new" / "deep") == ["out"]


def test_nothing_is_written_into_the_source(source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    for out in (source, source / "out", source / "axion" / "out", tmp_path / "link" / "out"):
        with pytest.raises(RequestError, match="lies inside"):
            prepare_folder(source, out, **SETTINGS)


def test_a_prepared_folder_cannot_be_the_source(source, tmp_path):
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    with pytest.raises(RequestError, match="is a prepared folder already"):
        prepare_folder(tmp_path / "out", tmp_path / "again", **SETTINGS)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left"), SystemExit])
def test_a_stopped_preparation_leaves_no_files(source, tmp_path, monkeypatch, error):
    def stop(*_):
        raise error

    monkeypatch.setattr(Manifest, "save", stop)
    with pytest.raises(error if isinstance(error, type) else OSError):
        prepare_folder(source, tmp_path / "out", **SETTINGS)
    assert names_in(tmp_path) == ["lenses"]


# The cache


@pytest.fixture
def cached(source, tmp_path):
    def run(**changes):
        return ensure_prepared(source, tmp_path / "cache", **(SETTINGS | changes))

    return run


def test_the_cache_is_used_until_the_source_changes(cached):
    folder = cached()
    before = tree_digest(folder)
    assert cached() == folder
    assert tree_digest(folder) == before


def test_other_settings_have_their_own_cache(cached):
    folders = {cached(), cached(image_size=8), cached(fit="crop"), cached(seed=1)}
    assert len(folders) == 4
    assert cached() in folders


@pytest.mark.parametrize("change", ["content", "new", "removed", "table"])
def test_a_changed_source_is_prepared_again(source, cached, tmp_path, change):
    folder = cached()
    before = Manifest.load(folder)
    path = source / "cdm" / "cdm_0001.npy"
    if change == "content":
        np.save(path, random_image(999))
    elif change == "new":
        np.save(source / "cdm" / "new.npy", random_image(999))
    elif change == "removed":
        path.unlink()
    else:
        rows = "".join(f"{p.name},1e-23\n" for p in (source / "cdm").glob("*.npy"))
        (source / "cdm" / "masses.csv").write_text("file,mass_ev\n" + rows)
    assert cached() == folder
    assert digests(Manifest.load(folder)) != digests(before)
    assert names_in(tmp_path / "cache") == [folder.name]


@pytest.mark.parametrize("damage", ["no manifest", "half manifest", "no shard", "half shard"])
def test_a_damaged_cache_is_not_used(cached, damage):
    folder = cached()
    before = digests(Manifest.load(folder))
    shard = folder / "train-00000.tfrecord"
    if damage == "no manifest":
        (folder / "manifest.json").unlink()
    elif damage == "half manifest":
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text[: len(text) // 2])
    elif damage == "no shard":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:1000])
    assert cached() == folder
    assert digests(Manifest.load(folder)) == before
    verify_shards(folder, Manifest.load(folder))


def test_a_failed_preparation_keeps_the_old_cache(source, cached, tmp_path):
    folder = cached()
    before = tree_digest(folder)
    for path in (source / "cdm").iterdir():
        make_unusable(path)
    with pytest.raises(DataError):
        cached()
    assert tree_digest(folder) == before
    assert names_in(tmp_path / "cache") == [folder.name, f"{folder.name}-rejected.csv"]


def test_a_cache_that_another_run_has_filled_is_not_replaced(source, cached, monkeypatch):
    write = preparing.write_draft

    def while_another_run_finishes(*arguments):
        monkeypatch.setattr(preparing, "write_draft", write)
        manifest = write(*arguments)
        other.append(tree_digest(cached()))
        return manifest

    other = []
    monkeypatch.setattr(preparing, "write_draft", while_another_run_finishes)
    assert tree_digest(cached()) == other[0]


def test_a_prepared_folder_is_used_directly(source, tmp_path):
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    data = ensure_prepared(tmp_path / "out", tmp_path / "cache", **SETTINGS | {"seed": 7})
    assert data == tmp_path / "out"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"image_size": 8}, "with image_size 16, not 8"), ({"fit": "crop"}, "with fit resize, not")],
)
def test_a_prepared_folder_of_other_settings_is_a_wrong_request(
    source, tmp_path, changes, expected
):
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    with pytest.raises(RequestError, match=expected):
        ensure_prepared(tmp_path / "out", tmp_path / "cache", **SETTINGS | changes)


def test_a_damaged_prepared_folder_is_unusable(source, tmp_path):
    prepare_folder(source, tmp_path / "out", **SETTINGS)
    (tmp_path / "out" / "train-00000.tfrecord").write_bytes(b"")
    with pytest.raises(DataError, match="changed since"):
        ensure_prepared(tmp_path / "out", tmp_path / "cache", **SETTINGS)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"format": "x"}))
    with pytest.raises(DataError, match="damaged"):
        ensure_prepared(tmp_path / "out", tmp_path / "cache", **SETTINGS)


def test_the_content_digest_depends_on_images_and_classes_only(tmp_path):
    rng = np.random.default_rng(5)
    images = {(c, i): rng.random((20, 20)) for c in ("a", "b") for i in range(4)}

    def content(name, images, **settings):
        for (label, i), image in images.items():
            (tmp_path / name / label).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / name / label / f"{name}-{i}.npy", image)
        settings = {"image_size": 20, "fit": "crop", "seed": 0, **settings}
        out = tmp_path / f"{name}-{settings['image_size']}-{settings['seed']}-prepared"
        manifest = prepare_folder(tmp_path / name, out, validation_fraction=0.0, **settings)
        return manifest.splits["train"].content

    first = content("first", images)
    assert first == content("first", images, image_size=10, seed=3)
    assert first == content("renamed", images)
    assert first != content("one-pixel", images | {("a", 0): images["a", 0] + np.eye(20) * 1e-9})
    swapped = images | {("a", 0): images["b", 0], ("b", 0): images["a", 0]}
    assert first != content("swapped", swapped)
