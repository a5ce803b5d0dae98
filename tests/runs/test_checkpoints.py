"""Checkpoints: complete or absent, verified, the last few kept, the newest intact one found."""

import errno
import hashlib
import json
import os

import numpy as np
import pytest

from deeplens_tf.errors import RequestError, ResourceError
from deeplens_tf.runs.checkpoints import ARRAYS, CHECKPOINT_FORMAT, MANIFEST, STATE, CheckpointStore

ARRAY_OF = {"model/00000/kernel": np.arange(6, dtype="float32").reshape(2, 3)}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


def names(store):
    return sorted(path.name for path in store.folder.iterdir())


def save(store, *steps):
    for step in steps:
        folder = store.save(step, ARRAY_OF, {"step": step})
    return folder


def test_arrays_and_state_are_restored_bit_for_bit(store):
    arrays = {
        "a": np.array([0.1, np.nan, -0.0, np.inf], "float32"),
        "b": np.array(7, "int64"),
        "c": np.array([[1, 2]], "uint32"),
        "d/e f:0": np.zeros((0, 3), "float16"),
    }
    state = {"rows": [{"loss": 0.1 + 0.2, "best": float("inf")}], "step": 3}
    store.save(3, arrays, state)
    found = store.newest()
    assert found.state == state
    assert found.arrays.keys() == arrays.keys()
    for key, array in arrays.items():
        assert found.arrays[key].dtype == array.dtype
        assert found.arrays[key].shape == array.shape
        assert found.arrays[key].tobytes() == array.tobytes()


def test_an_empty_store_has_no_newest_checkpoint(store):
    assert store.newest() is None


def test_the_last_few_are_kept(store):
    save(store, 5, 10, 15, 20)
    assert names(store) == ["step-000000015", "step-000000020"]
    assert store.newest().state == {"step": 20}


def test_a_second_checkpoint_of_a_step_does_not_replace_the_first(store):
    first = save(store, 5)
    second = save(store, 5)
    assert (first.name, second.name) == ("step-000000005", "step-000000005-1")
    assert store.newest().folder == second


def test_products_are_kept_as_they_were_when_saved(store, tmp_path):
    product, missing = tmp_path / "model.keras", tmp_path / "none.keras"
    product.write_bytes(b"epoch 1")
    store.save(1, ARRAY_OF, {}, [product, missing])
    replacement = tmp_path / "replacement"
    replacement.write_bytes(b"epoch 2")
    replacement.replace(product)
    assert (store.newest().folder / "model.keras").read_bytes() == b"epoch 1"
    assert not (store.newest().folder / "none.keras").exists()


def test_products_are_kept_without_hard_links_too(store, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    (tmp_path / "model.keras").write_bytes(b"epoch 1")
    store.save(1, ARRAY_OF, {}, [tmp_path / "model.keras"])
    assert (store.newest().folder / "model.keras").read_bytes() == b"epoch 1"


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def forge(path):
    path.write_text(
        json.dumps({"format": CHECKPOINT_FORMAT, "files": {"../../x": {}, ARRAYS: {}, STATE: {}}})
    )


@pytest.mark.parametrize("file", [ARRAYS, STATE, MANIFEST])
@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()])
def test_instead_of_a_damaged_checkpoint_an_earlier_one_is_used(store, capsys, file, damage):
    newest = save(store, 5, 10)
    damage(newest / file)
    found = store.newest()
    if file == MANIFEST and found.folder == newest:
        # One bit of the manifest's whitespace, which does not matter.
        assert found.state == {"step": 10}
        return
    assert found.state == {"step": 5}
    err = capsys.readouterr().err
    assert err.startswith(f"{newest}: damaged, ")
    assert err.endswith("; trying an earlier one\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "function",
    ["pathlib.Path.iterdir", "pathlib.Path.read_bytes", "pathlib.Path.open", "numpy.load"],
)
def test_a_checkpoint_that_cannot_be_read_is_kept(store, monkeypatch, function):
    save(store, 5, 10)
    with monkeypatch.context() as patch:
        patch.setattr(function, refuse_reading)
        with pytest.raises(ResourceError, match="cannot be read: Stale file handle; nothing"):
            store.newest()
    assert store.newest().state == {"step": 10}
    save(store, 15)
    assert names(store) == ["step-000000010", "step-000000015"]


def refuse_reading(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")


def test_a_checkpoint_of_another_format_is_refused_and_kept(store):
    newest = save(store, 5, 10)
    manifest = json.loads((newest / MANIFEST).read_text())
    (newest / MANIFEST).write_text(json.dumps(manifest | {"format": CHECKPOINT_FORMAT + 1}))
    formats = f"of format {CHECKPOINT_FORMAT + 1}, .* reads format {CHECKPOINT_FORMAT}"
    with pytest.raises(RequestError, match=rf"{newest}: .* {formats}: resume with the version"):
        store.newest()
    assert names(store) == ["step-000000005", "step-000000010"]


def test_a_manifest_cannot_name_files_outside(store):
    forge(save(store, 5) / MANIFEST)
    assert store.newest() is None


def test_a_pickle_is_never_opened(store):
    folder = save(store, 5)
    with (folder / ARRAYS).open("wb") as file:
        np.savez(file, trap=np.array([object()], dtype=object))
    # With a new checksum, as an attacker would write it.
    manifest = json.loads((folder / MANIFEST).read_text())
    content = (folder / ARRAYS).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][ARRAYS] = {"bytes": len(content), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert store.newest() is None


def test_a_damaged_checkpoint_does_not_count_among_those_to_keep(store):
    flip(save(store, 5, 10) / ARRAYS)
    assert store.newest().state == {"step": 5}
    save(store, 7)
    assert names(store) == ["step-000000005", "step-000000007"]
    assert store.newest().state == {"step": 7}


def test_an_older_damaged_checkpoint_does_not_count_either(store, capsys):
    store.keep = 3
    first = save(store, 5)
    second = save(store, 10)
    save(store, 15)
    flip(second / ARRAYS)
    assert store.newest().state == {"step": 15}
    assert capsys.readouterr().err == (
        f"{second}: damaged, {ARRAYS} does not match its checksum; using the newer one\n"
    )
    save(store, 20)
    assert names(store) == [first.name, "step-000000015", "step-000000020"]


def test_a_damaged_checkpoint_is_kept_until_the_next_is_complete(store, monkeypatch):
    flip(save(store, 5, 10) / ARRAYS)
    store.newest()
    monkeypatch.setattr("os.fsync", refuse_disk)
    with pytest.raises(ResourceError):
        save(store, 7)
    assert names(store) == ["step-000000005", "step-000000010"]


def refuse_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("calls_before", range(6))
def test_a_disk_that_fills_up_at_any_flush_leaves_the_earlier_checkpoint(
    store, monkeypatch, calls_before
):
    save(store, 5)
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        return real(descriptor) if len(calls) <= calls_before else refuse_disk()

    monkeypatch.setattr("os.fsync", fsync)
    if calls_before < 5:  # arrays, state, manifest, the folder, the folder above
        with pytest.raises(ResourceError, match=r"step-000000010: cannot be written: No space"):
            save(store, 10)
    else:
        save(store, 10)
    monkeypatch.undo()
    assert not [name for name in names(store) if name.startswith(".")]
    # The last flush comes after the rename.
    assert store.newest().state["step"] == (5 if calls_before < 4 else 10)


def test_incomplete_checkpoints_of_killed_saves_are_removed(store):
    save(store, 5)
    (store.folder / ".step-000000010.123.partial").mkdir()
    (store.folder / ".step-000000010.123.partial" / ARRAYS).write_bytes(b"half")
    assert store.newest().state == {"step": 5}
    assert names(store) == ["step-000000005"]
