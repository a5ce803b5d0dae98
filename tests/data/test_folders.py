import numpy as np
import pytest

from deeplens_tf.data.folders import find_test_folder, scan_folder
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import make_folder, random_image


def test_classes_are_the_sorted_folders(tmp_path):
    root = make_folder(tmp_path / "d", {"no_sub": 1, "cdm": 2, "axion": 1})
    folder = scan_folder(root)
    assert folder.classes == ("axion", "cdm", "no_sub")
    assert [(file.name, file.label) for file in folder.files] == [
        ("axion/axion_0000.npy", 0),
        ("cdm/cdm_0000.npy", 1),
        ("cdm/cdm_0001.npy", 1),
        ("no_sub/no_sub_0000.npy", 2),
    ]
    assert folder.files[0].path == root / "axion" / "axion_0000.npy"


def test_other_and_hidden_files_are_ignored(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 1, "b": 1})
    for name in (
        "simulation.json",
        "README.md",
        "list.csv",
        ".hidden.npy",
        "a/masses.csv",
        "a/n.txt",
    ):
        (root / name).write_text("text")
    for name in (".git", "__pycache__", "a/deeper"):
        (root / name).mkdir()
        np.save(root / name / "x.npy", random_image(0))
    folder = scan_folder(root)
    assert folder.classes == ("a", "b")
    assert len(folder.files) == 2
    assert folder.strays == ()


def test_a_folder_of_images_is_unlabelled(tmp_path):
    for name in ("b.npy", "a.NPY", "c.npz"):
        (tmp_path / name).write_text("text")
    folder = scan_folder(tmp_path)
    assert folder.classes == ()
    assert [(file.name, file.label) for file in folder.files] == [
        ("a.NPY", -1),
        ("b.npy", -1),
        ("c.npz", -1),
    ]


def test_images_next_to_the_class_folders_are_strays(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 1})
    np.save(root / "mean.npy", random_image(0))
    assert scan_folder(root).strays == ("mean.npy",)


def test_a_missing_folder_is_a_wrong_request(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="missing: no such folder"):
        scan_folder(tmp_path / "missing")
    with pytest.raises(RequestError, match="file: not a folder"):
        scan_folder(tmp_path / "file")


def test_a_folder_without_images_is_unusable(tmp_path):
    with pytest.raises(DataError, match=r"no class folder and no image"):
        scan_folder(tmp_path)
    root = make_folder(tmp_path / "d", {"a": 1, "b": 0})
    with pytest.raises(DataError, match=r"b: no image in this class folder"):
        scan_folder(root)


def test_links_are_followed_and_broken_ones_listed(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 1})
    (root / "b").symlink_to(root / "a")
    (root / "a" / "broken.npy").symlink_to(tmp_path / "nowhere")
    names = [file.name for file in scan_folder(root).files]
    assert names == ["a/a_0000.npy", "a/broken.npy", "b/a_0000.npy", "b/broken.npy"]


def test_the_test_folder_is_next_to_the_source(tmp_path, monkeypatch):
    make_folder(tmp_path / "lenses", {"a": 1})
    assert find_test_folder(tmp_path / "lenses") is None
    make_folder(tmp_path / "lenses_test", {"a": 1})
    assert find_test_folder(tmp_path / "lenses") == tmp_path / "lenses_test"
    monkeypatch.chdir(tmp_path / "lenses")
    assert find_test_folder(type(tmp_path)(".")) == tmp_path / "lenses_test"
    assert find_test_folder(type(tmp_path)("/")) is None
