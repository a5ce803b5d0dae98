"""Files and folders that are complete or absent."""

from pathlib import Path

import pytest

from deeplens_tf.errors import ResourceError
from deeplens_tf.files.atomic_writing import (
    create_whole,
    draft_file,
    draft_folder,
    remove_drafts,
    replace_folder,
    sweep_partials,
    write_whole,
    writing,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_existing_file(tmp_path):
    path = tmp_path / "image.npy"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, write_half)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["image.npy"]


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "image.npy"

    def write(file):
        file.write(b"first half")
        assert not path.exists()

    write_whole(path, write)
    assert names(tmp_path) == ["image.npy"]


def test_a_file_error_without_a_name_gets_one(tmp_path):
    path = tmp_path / "image.npy"

    def write(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, write)
    assert caught.value.filename == str(path)


def test_a_draft_that_another_process_removed_is_no_loss_once_the_file_is_complete(tmp_path):
    path = tmp_path / "image.npy"

    def write_while_another_process_finishes(file):
        path.write_bytes(b"complete")
        sweep_partials(tmp_path)

    write_whole(path, write_while_another_process_finishes)
    assert path.read_bytes() == b"complete"


def test_a_draft_that_was_removed_is_an_error_if_the_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError), draft_file(tmp_path / "image.npy") as draft:
        draft.touch()
        draft.unlink()


@pytest.mark.parametrize("durable", [False, True])
def test_a_draft_file_replaces_the_file_after_the_block(tmp_path, durable):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    with draft_file(path, ".keras", durable) as draft:
        assert draft.parent == tmp_path
        assert draft.name.startswith(".")
        assert draft.suffix == ".keras"
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["model.keras"]


def test_a_draft_file_is_removed_after_an_error(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), draft_file(path, ".keras") as draft:
        draft.write_bytes(b"ne")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("durable", [False, True])
def test_durable_drafts_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch, durable):
    path, flushed = tmp_path / "model.keras", []

    def fsync(descriptor):
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.exists()))

    monkeypatch.setattr("os.fsync", fsync)
    with draft_file(path, durable=durable) as draft:
        draft.write_bytes(b"new")
    assert flushed == ([(draft, False), (tmp_path, True)] if durable else [])


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


def test_a_draft_folder_is_hidden_next_to_its_path_and_removed_after_the_block(tmp_path):
    path = tmp_path / "made" / "prepared"
    with draft_folder(path) as draft:
        assert draft.parent == path.parent
        assert draft.name.startswith(".prepared.")
        (draft / "shard").touch()
    assert names(path.parent) == []
    with pytest.raises(ZeroDivisionError), draft_folder(path):
        raise ZeroDivisionError
    assert names(path.parent) == []


def test_a_draft_folder_that_was_renamed_stays(tmp_path):
    with draft_folder(tmp_path / "prepared") as draft:
        (draft / "shard").touch()
        draft.rename(tmp_path / "prepared")
    assert names(tmp_path / "prepared") == ["shard"]


def test_two_drafts_of_one_folder_differ(tmp_path):
    with (
        draft_folder(tmp_path / "prepared") as first,
        draft_folder(tmp_path / "prepared") as second,
    ):
        assert first != second


def test_a_draft_replaces_a_folder(tmp_path):
    path = tmp_path / "report"
    for content in ("first", "second"):
        with draft_folder(path) as draft:
            (draft / content).touch()
            replace_folder(draft, path)
        assert names(path) == [content]
        assert names(tmp_path) == ["report"]


def test_a_replacement_that_fails_leaves_the_existing_folder(tmp_path):
    path = tmp_path / "report"
    path.mkdir()
    (path / "first").touch()
    with pytest.raises(FileNotFoundError), draft_folder(path) as draft:
        draft.rmdir()
        replace_folder(draft, path)
    assert names(path) == ["first"]
    assert names(tmp_path) == ["report"]


def test_sweeping_keeps_drafts_of_missing_files(tmp_path):
    (tmp_path / "done.npy").write_bytes(b"complete")
    for name in (".done.npy.12.partial", ".other.npy.13.partial", ".hidden"):
        (tmp_path / name).write_bytes(b"half")
    sweep_partials(tmp_path)
    assert names(tmp_path) == [".hidden", ".other.npy.13.partial", "done.npy"]


def test_all_drafts_of_files_are_removed_from_a_folder(tmp_path):
    kept = (".hidden", "model.keras", "partial.npy")
    drafts = (".model.keras.12.partial.keras", ".x.csv.12.partial", ".partial-encoder.keras")
    for name in (*kept, *drafts):
        (tmp_path / name).touch()
    remove_drafts(tmp_path)
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("Unable to write"), "Unable to write"),  # as HDF5 has it
    ],
)
def test_a_write_error_becomes_one_that_names_the_path(tmp_path, error, reason):
    with (
        pytest.raises(ResourceError, match=rf"shard: cannot be written: {reason}$"),
        writing(tmp_path / "shard"),
    ):
        raise error


def test_a_resource_error_keeps_its_message(tmp_path):
    with pytest.raises(ResourceError, match=r"^locked$"), writing(tmp_path):
        raise ResourceError("locked")
