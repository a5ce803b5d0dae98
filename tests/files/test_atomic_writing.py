import pytest

from deeplens_tf.files.atomic_writing import create_whole, sweep_partials, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "image.npy"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, write_half)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["image.npy"]


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "image.npy"

    def write(file):
        file.write(b"first half")
        assert not path.exists()

    write_whole(path, write)
    assert names(tmp_path) == ["image.npy"]


def test_a_copy_swept_away_by_the_same_run_elsewhere_is_no_loss(tmp_path):
    path = tmp_path / "image.npy"

    def write_while_another_run_finishes(file):
        path.write_bytes(b"whole")
        sweep_partials(tmp_path)

    write_whole(path, write_while_another_run_finishes)
    assert path.read_bytes() == b"whole"


def test_a_file_is_created_once(tmp_path):
    path = tmp_path / "record.json"
    assert create_whole(path, b"first")
    assert not create_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["record.json"]


def test_a_file_is_created_without_hard_links_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    assert create_whole(tmp_path / "record.json", b"content")
    assert (tmp_path / "record.json").read_bytes() == b"content"
    assert names(tmp_path) == ["record.json"]


def test_sweep_leaves_what_others_are_writing(tmp_path):
    (tmp_path / "done.npy").write_bytes(b"whole")
    for name in (".done.npy.12.partial", ".going_on.npy.13.partial", ".hidden"):
        (tmp_path / name).write_bytes(b"half")
    sweep_partials(tmp_path)
    assert names(tmp_path) == [".going_on.npy.13.partial", ".hidden", "done.npy"]
