"""Copies, contradictions and groups: what may not be on both sides of a split."""

import csv

import numpy as np
import pytest

from deeplens_tf.data.content import content_digest
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.preparing import ensure_prepared, prepare_folder
from deeplens_tf.data.summary import summarise
from deeplens_tf.errors import DataError
from tests.data.image_folders import SETTINGS, make_folder, random_image, write_pair


def rejected(folder):
    with (folder / "rejected.csv").open(newline="") as stream:
        return {row["file"]: row["reason"] for row in csv.DictReader(stream)}


def files(folder, split):
    count = Manifest.load(folder).splits[split].count
    return read_index(folder, split, count)["file"].tolist()


def contents(folder, split):
    return set(read_index(folder, split, Manifest.load(folder).splits[split].count)["content"])


@pytest.fixture
def source(tmp_path):
    make_folder(tmp_path / "d_test", {"a": 6, "b": 6}, start=500)
    return make_folder(tmp_path / "d", {"a": 20, "b": 20})


@pytest.fixture
def prepared(source, tmp_path):
    def run(**changes):
        manifest = prepare_folder(source, tmp_path / "out", **SETTINGS | changes)
        return manifest, tmp_path / "out"

    return run


# Copies


def test_copies_of_training_images_are_left_out_of_the_test_split(source, prepared, capsys):
    for i in range(3):
        np.save(f"{source}_test/a/copy{i}.npy", np.load(source / "a" / f"a_{i:04d}.npy"))
    manifest, out = prepared()
    assert manifest.splits["test"].per_class == {"a": 6, "b": 6}
    assert (manifest.rejected, manifest.left_out) == (0, {"duplicate": 3})
    assert manifest.duplicates == {"test": 3}
    assert set(rejected(out)) == {f"../d_test/a/copy{i}.npy" for i in range(3)}
    reason = rejected(out)["../d_test/a/copy1.npy"]
    assert reason.startswith("identical to a/a_0001.npy, which is in ")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "3 of 55 files left out (3 duplicates in test), the first: ../d_test/a/c"
    )
    assert "  left out: 3 duplicates in test: see rejected.csv" in summarise(manifest, out)


def test_a_copy_as_another_type_in_another_axis_order_is_a_copy(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 9, "b": 9}, shape=(3, 16, 16))
    image = np.round(100 * np.load(root / "a" / "a_0000.npy"))
    np.save(root / "a" / "a_0000.npy", image)
    (tmp_path / "d_test" / "a").mkdir(parents=True)
    np.save(tmp_path / "d_test" / "a" / "x.npy", np.moveaxis(image, 0, -1).astype(">i2"))
    np.save(tmp_path / "d_test" / "a" / "y.npy", random_image(1000, (3, 16, 16)))
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.left_out == {"duplicate": 1}
    assert files(tmp_path / "out", "test") == ["a/y.npy"]


def test_a_copy_in_float32_is_a_copy_and_a_faint_difference_is_none(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 9, "b": 9})
    image = 1e-9 * np.random.default_rng(0).normal(size=(16, 16))
    np.save(root / "a" / "a_0000.npy", image)
    test = tmp_path / "d_test" / "a"
    test.mkdir(parents=True)
    np.save(test / "copy.npy", image.astype("f4"))
    image[3, 4] *= 1 + 1e-6
    np.save(test / "other.npy", image)
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.duplicates == {"test": 1}
    assert files(tmp_path / "out", "test") == ["a/other.npy"]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_digest_is_that_of_the_values_in_float32(scale):
    values = scale * np.random.default_rng(1).normal(size=(200, 50, 1))
    assert content_digest(values) == content_digest(values.astype("f4"))
    assert content_digest(values) != content_digest(1.0000002 * values)


def test_values_beyond_float32_have_a_digest_of_their_own():
    faint, bright = (factor * random_image(0, (16, 16, 1)) for factor in (1e-200, 1.7e308))
    far = [faint, 3 * faint, bright, bright / 3]
    assert len({content_digest(image.astype("f8")) for image in far}) == 4


def test_one_of_two_copies_in_the_test_folder_is_scored(source, prepared):
    np.save(f"{source}_test/b/twice.npy", np.load(f"{source}_test/b/b_0001.npy"))
    manifest, out = prepared()
    assert manifest.splits["test"].count == 12
    (reason,) = rejected(out).values()
    assert reason.startswith("identical to ../d_test/b/")
    assert reason.endswith("which is in the test folder too")


@pytest.mark.parametrize("labelled", [True, False])
def test_no_image_is_in_training_and_in_validation(tmp_path, labelled):
    root = tmp_path / "d"
    folder = root / "a" if labelled else root
    folder.mkdir(parents=True)
    for i in range(60):
        np.save(folder / f"{i:02d}.npy", random_image(i % 20))
    settings = SETTINGS | {"validation_fraction": 0.3}
    manifest = prepare_folder(root, tmp_path / "out", **settings)
    train, validation = (contents(tmp_path / "out", split) for split in ("train", "validation"))
    assert not train & validation
    assert len(train | validation) == 20
    # Copies within training stay; validation has one copy of each image.
    assert manifest.splits["validation"].count == len(validation) > 0
    assert manifest.splits["train"].count == 60 - len(validation) - manifest.left_out["duplicate"]
    assert manifest.splits["train"].count > len(train)


def test_any_number_of_copies_is_left_out_unless_strict(source, tmp_path, prepared):
    for i in range(20):
        np.save(f"{source}_test/b/copy{i:02d}.npy", np.load(source / "b" / "b_0003.npy"))
    with pytest.raises(DataError, match=r"20 of 72 files left out .*--strict forbids files that"):
        prepared(strict=True)
    manifest, out = prepared()
    assert manifest.left_out == {"duplicate": 20}
    with pytest.raises(DataError, match="its preparation left out 20 files"):
        ensure_prepared(out, tmp_path / "cache", **SETTINGS, strict=True)


def test_a_test_folder_of_copies_only_can_be_trained_beside_but_not_scored(tmp_path, capsys):
    root = make_folder(tmp_path / "d", {"a": 10, "b": 10})
    make_folder(tmp_path / "d_test", {"a": 10, "b": 10})
    data = open_folder(root, image_size=16, cache=tmp_path / "cache")
    assert data.count("test") == 0
    assert data.count("train") == 18
    assert "20 of 40 files left out (20 duplicates in test)" in capsys.readouterr().err
    assert Manifest.load(data.folder).splits["test"].per_class == {"a": 0, "b": 0}
    with pytest.raises(DataError, match=r"every image of the test folder was left out \(20 dup"):
        data.require_test_images_kept()


# Contradictions


def test_an_image_in_two_classes_is_left_out_with_both_names(source, prepared):
    np.save(source / "b" / "same.npy", np.load(source / "a" / "a_0004.npy"))
    manifest, out = prepared()
    assert manifest.left_out == {"contradiction": 2}
    assert rejected(out) == {
        "a/a_0004.npy": "identical to b/same.npy, which is in another class",
        "b/same.npy": "identical to a/a_0004.npy, which is in another class",
    }
    assert manifest.rejected == 0
    assert not {"a/a_0004.npy", "b/same.npy"} & {*files(out, "train"), *files(out, "validation")}


def test_a_test_image_of_another_class_than_in_training_is_left_out_of_both(source, prepared):
    np.save(f"{source}_test/b/x.npy", np.load(source / "a" / "a_0007.npy"))
    np.save(f"{source}_test/a/y.npy", np.load(source / "a" / "a_0007.npy"))
    manifest, out = prepared()
    assert set(rejected(out)) == {"a/a_0007.npy", "../d_test/b/x.npy", "../d_test/a/y.npy"}
    assert manifest.splits["test"].count == 12


def test_an_image_with_two_masses_is_left_out(tmp_path):
    root = make_folder(tmp_path / "d", {"axion": 0, "cdm": 5}, start=100)
    for i in range(9):
        write_pair(root / "axion" / f"{i}.npy", random_image(i), 1e-24 * (i + 1))
    write_pair(root / "axion" / "other.npy", random_image(3), 7e-23)
    write_pair(root / "axion" / "equal.npy", random_image(4), 5e-24 * (1 + 1e-9))
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS | {"validation_fraction": 0.0})
    assert rejected(tmp_path / "out") == {
        "axion/3.npy": "identical to axion/other.npy, which has the mass 7e-23 eV",
        "axion/other.npy": "identical to axion/3.npy, which has the mass 4e-24 eV",
    }
    assert manifest.splits["train"].per_class["axion"] == 9


# Groups


def write_groups(root, groups, header="file,group"):
    rows = [f"{name},{group}" for name, group in groups.items()]
    (root / "groups.csv").write_text("\n".join([header, *rows]) + "\n")


def by_fours(root):
    """Groups of four images that follow each other in the order of their names."""
    names = sorted(f"{path.parent.name}/{path.name}" for path in root.glob("*/*.npy"))
    return {name: f"{name[0]}-{i // 4}" for i, name in enumerate(names)}


@pytest.mark.parametrize("seed", range(4))
def test_a_group_is_on_one_side_of_the_split(tmp_path, seed):
    root = make_folder(tmp_path / "d", {"a": 40, "b": 80})
    groups = by_fours(root)
    write_groups(root, groups)
    settings = SETTINGS | {"seed": seed, "validation_fraction": 0.1}
    manifest = prepare_folder(root, tmp_path / "out", **settings)
    sides = [{groups[name] for name in files(tmp_path / "out", s)} for s in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert manifest.splits["validation"].per_class == {"a": 4, "b": 8}
    assert manifest.splits["train"].per_class == {"a": 36, "b": 72}
    assert manifest.left_out == {}
    assert manifest.groups == {"groups": 30, "images": 120}
    summary = summarise(manifest, tmp_path / "out")
    assert "groups.csv: 30 groups of 120 images, each in one split" in summary


def test_a_group_over_two_classes_leaves_an_image_of_each_class_in_training(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 3, "b": 3})
    pairs = {f"{c}/{c}_{i:04d}.npy": f"pair {i}" for c in "ab" for i in range(3)}
    write_groups(root, pairs)
    for seed in range(6):
        out = tmp_path / f"out{seed}"
        splits = prepare_folder(root, out, **SETTINGS | {"seed": seed}).splits
        assert splits["train"].per_class == {"a": 2, "b": 2}
        assert len({pairs[name] for name in files(out, "validation")}) == 1


def test_validation_has_an_image_of_a_class_of_two_large_groups(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 20, "b": 20})
    write_groups(root, {f"{c}/{c}_{i:04d}.npy": f"{c}{i % 2}" for c in "ab" for i in range(20)})
    splits = prepare_folder(root, tmp_path / "out", **SETTINGS).splits
    assert splits["validation"].per_class == splits["train"].per_class == {"a": 10, "b": 10}


def test_groups_change_nothing_for_files_without_a_row(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 20, "b": 20})
    before = prepare_folder(root, tmp_path / "before", **SETTINGS)
    write_groups(root, {"a/a_0000.npy": "alone", "a/a_0001.npy": "", "b/none.npy": "x"})
    after = prepare_folder(root, tmp_path / "after", **SETTINGS)
    assert before.splits == after.splits
    assert before.fingerprint != after.fingerprint


def test_test_images_of_a_group_in_training_are_left_out(source, prepared):
    write_groups(source, {"a/a_0000.npy": "lens 7", "b/b_0001.npy": "lens 8"})
    test = source.parent / "d_test"
    write_groups(test, {"a/a_0002.npy": "lens 7", "a/a_0003.npy": "lens 9"})
    manifest, out = prepared(validation_fraction=0.0)
    assert manifest.left_out == {"group": 1}
    assert rejected(out) == {"../d_test/a/a_0002.npy": "group lens 7 is in training"}
    assert manifest.splits["test"].count == 11


def test_rows_that_name_no_image_are_counted(source, prepared):
    rows = ["\ufeff file , group ", "a/a_0000.npy , one", '"a/a_0001.npy",one ', ""]
    rows += [f"{source}/a/a_0002.npy,one", "a/none.npy,two"]
    (source / "groups.csv").write_text("\r\n".join(rows), encoding="utf-8", newline="")
    manifest, out = prepared()
    assert manifest.groups == {"groups": 1, "images": 2, "unknown": 2}
    line = "groups.csv: 1 group of 2 images, each in one split; rows that name no image: 2"
    assert line in summarise(Manifest.load(out), out)


def test_one_group_of_all_images_leaves_none_for_validation_and_a_line_says_so(source, prepared):
    write_groups(source, dict.fromkeys(by_fours(source), "all"))
    manifest, out = prepared()
    assert set(manifest.splits) == {"train", "test"}
    line = "no validation images: they need two images of a class, in different groups"
    assert line in summarise(manifest, out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,object\na/a_0000.npy,1\n", "no column group; a table of groups needs the columns"),
        ("file,group\na_0000.npy,1\n", r"no row names an image; .* such as a/a_0000\.npy"),
        ("file,group\n", "no row names an image"),
        ("file,group\na/a_0000.npy,1\na/a_0000.npy,2\n", r"'a/a_0000\.npy' is listed twice"),
        ('file,group\n"a', "not a CSV table"),
        ("", "no column file and group"),
    ],
)
def test_a_table_of_groups_that_cannot_be_used_ends_the_preparation(
    source, prepared, text, expected
):
    (source / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=rf"groups\.csv: {expected}"):
        prepared()


# The classes of the test folder


def test_a_test_folder_may_lack_a_class_and_labels_go_by_name(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 5, "b": 5, "c": 5})
    make_folder(tmp_path / "d_test", {"c": 3}, start=100)
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.splits["test"].per_class == {"a": 0, "b": 0, "c": 3}
    assert read_index(tmp_path / "out", "test", 3)["label"].tolist() == [2, 2, 2]
    assert Manifest.load(tmp_path / "out") == manifest


def test_an_empty_class_folder_of_tests_is_a_class_that_they_lack(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 5, "b": 5})
    test = make_folder(tmp_path / "d_test", {"a": 3}, start=100)
    (test / "b").mkdir()
    (test / "b" / "1.xyz").write_bytes(b"x")
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.splits["test"].per_class == {"a": 3, "b": 0}
    assert manifest.passed_over == {".xyz": 1}
    for file in (test / "a").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"d_test/a: no image in this class folder"):
        prepare_folder(root, tmp_path / "out2", **SETTINGS)


def test_test_images_in_no_class_folder_are_left_out_with_that_reason(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 5, "b": 5})
    (tmp_path / "d_test").mkdir()
    np.save(tmp_path / "d_test" / "x.npy", random_image(100))
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.left_out == {"class": 1}
    assert rejected(tmp_path / "out") == {"../d_test/x.npy": "not in a folder of a class: a, b"}


def test_a_class_that_training_lacks_is_left_out_of_the_test_split(tmp_path, capsys):
    root = make_folder(tmp_path / "d", {"a": 5, "c": 5})
    make_folder(tmp_path / "d_test", {"a": 2, "b": 4, "c": 3}, start=100)
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.splits["test"].per_class == {"a": 2, "c": 3}
    assert manifest.left_out == {"class": 4}
    reason = rejected(tmp_path / "out")["../d_test/b/b_0000.npy"]
    assert reason == "its class is none of training: a, c"
    assert "4 of 19 files left out (4 of a class that training lacks)" in capsys.readouterr().err


def test_unlabelled_training_images_take_the_test_images_unlabelled(tmp_path):
    (tmp_path / "d").mkdir()
    for i in range(12):
        np.save(tmp_path / "d" / f"{i}.npy", random_image(i))
    make_folder(tmp_path / "d_test", {"a": 2, "b": 1}, start=100)
    manifest = prepare_folder(tmp_path / "d", tmp_path / "out", **SETTINGS)
    assert manifest.classes == ()
    assert read_index(tmp_path / "out", "test", 3)["label"].tolist() == [-1, -1, -1]
