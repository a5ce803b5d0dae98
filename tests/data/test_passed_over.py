"""Files that are not read are counted by kind, and named where there is no image."""

import os

import numpy as np
import pytest

from deeplens_tf.data.folders import scan_folder
from deeplens_tf.data.formats.image_formats import READ_TEXT
from deeplens_tf.data.passed_over import passed_over_text
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import make_folder, random_image


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"\x89 something else")


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 1, "b": 1})
    touch(root, "cutouts.SAV", "list.csv", "notes")
    touch(root / "a", "1.xisf", "2.XISF", "3.asdf.gz", "snapshot.000123", "x.tar.gz")
    touch(root / "b", "4.xisf", "catalog.csv", "groups.csv", "masses_of_all.csv")
    touch(root / "b", "labels.csv")
    touch(root, "catalog-of-lenses.csv")
    (root / "b" / "deeper").mkdir()
    assert scan_folder(root).passed_over == {
        ".csv": 5,
        ".xisf": 3,
        ".asdf.gz": 1,
        ".tar.gz": 1,
        ".sav": 1,
        "folders": 1,
        "labels.csv": 1,
        "no suffix": 2,
    }


def test_what_the_package_reads_or_writes_is_not_counted(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 1})
    touch(
        root, "simulation.json", "images.yaml", "groups.csv", "masses.csv", "README", "LICENSE.md"
    )
    touch(root, "catalog.csv", "catalog-1-of-2.csv")
    touch(root / "a", "masses.csv", "masses-1-of-2.csv", "readme.txt", ".hidden", "__notes__")
    (root / "a" / ".git").mkdir()
    assert scan_folder(root).passed_over == {}


def test_a_table_of_labels_beside_images_is_named(tmp_path):
    np.save(tmp_path / "0.npy", random_image(0))
    touch(tmp_path, "Labels.csv", "0.bmp")
    folder = scan_folder(tmp_path)
    assert folder.passed_over == {"labels.csv": 1, ".bmp": 1}
    assert passed_over_text(folder.passed_over) == (
        f"1 .bmp file passed over: {READ_TEXT}; labels.csv is not read: it is "
        "where images lie beside it and no class folder does, or where data.catalog names it"
    )


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, ""),
        ({".pdf": 18}, f"18 .pdf files passed over: {READ_TEXT}"),
        (
            {"folders": 2, "no suffix": 1, ".bmp": 1},
            "1 .bmp file, 2 folders inside class folders, 1 file without a suffix passed over: "
            + READ_TEXT,
        ),
    ],
)
def test_the_counts_in_words(counts, text):
    assert passed_over_text(counts) == text


@pytest.mark.parametrize(
    ("folder", "names", "line"),
    [
        ("d/a", ["1.xyz", "2.xyz"], r"a: no .* in this class folder; 2 \.xyz files passed over: "),
        ("d", ["labels.csv"], "d: no class folder and no .*; labels.csv is not read: it is "),
        ("d", ["cutouts.sav"], r"d: no class folder and no .*; 1 \.sav file passed over: only "),
        ("d/a/lenses", ["1.npy"], "a: no .* if the folders in it are the classes, give .*d/a as"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path, folder, names, line):
    touch(tmp_path / folder, *names)
    with pytest.raises(DataError, match=line):
        scan_folder(tmp_path / "d")


@pytest.mark.parametrize(
    ("classes", "splits"),
    [
        (["train", "val", "test"], "test, train, val"),
        (["Training", "VALIDATION"], "Training, VALIDATION"),
        (["lenses", "nonlenses", "Test"], "Test"),
        (["train_images", "test-set"], "test-set, train_images"),
        (["lenses", "lenses_test"], "lenses_test"),
        (["lenses_test", "lenses_train", "spirals"], "lenses_test, lenses_train"),
        (["X-Train", "X-Val"], "X-Train, X-Val"),
    ],
)
def test_splits_are_no_classes(tmp_path, classes, splits):
    root = make_folder(tmp_path / "d", dict.fromkeys(classes, 1))
    with pytest.raises(RequestError, match=f"d: {splits}: splits of a data set, not classes; give"):
        scan_folder(root)


@pytest.mark.parametrize(
    ("classes", "folder"),
    [
        (["Train", "Test"], "d/Train"),
        (["lenses", "lenses_test"], "d/lenses"),
        (["lenses_test", "lenses_train"], "d/lenses_train"),
        (["axion", "strain", "test"], "d"),
    ],
)
def test_the_right_layout_is_in_the_line(tmp_path, classes, folder):
    root, right = make_folder(tmp_path / "d", dict.fromkeys(classes, 1)), tmp_path / folder
    line = f"give {right} as the data folder, and put test images beside it, in {right}_test"
    with pytest.raises(RequestError, match=line):
        scan_folder(root)


@pytest.mark.parametrize(
    "name", ["trained", "contest", "validated", "strain", "test_particles", "a_train"]
)
def test_other_names_are_classes(tmp_path, name):
    assert scan_folder(make_folder(tmp_path / "d", {name: 1, "b": 1})).classes


def test_odd_entries_are_counted_without_being_opened(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 1})
    os.mkfifo(root / "a" / "pipe.xisf")
    (root / "a" / "loop").symlink_to(root / "a" / "loop")
    (root / "a" / "\x1b[31m.x\x1b").touch()
    assert scan_folder(root).passed_over == {".xisf": 1, "no suffix": 2}
