import hashlib
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from deeplens_tf.data import source_files
from deeplens_tf.data.source_files import (
    FileRecord,
    read_records,
    renew_records,
    save_records,
    source_state,
)
from deeplens_tf.data.source_folders import scan_folders
from tests.data.image_folders import make_folder, random_image

FIXED = 946_684_800 * 10**9  # the one time that a reproducible archive gives to all files


@pytest.fixture
def source(tmp_path):
    make_folder(tmp_path / "d_test", {"a": 1, "b": 1}, start=50)
    return make_folder(tmp_path / "d", {"a": 2, "b": 2})


def fingerprint(source):
    return source_state(scan_folders(source), {}).fingerprint


def settled(records):
    """The records as if they had been made long after the last change of the files."""
    return {name: replace(r, checked_ns=r.ctime_ns + 10**10) for name, r in records.items()}


def count_reads(monkeypatch):
    reads, real = [], source_files._sha256

    def counted(path, status):
        reads.append(path.name)
        return real(path, status)

    monkeypatch.setattr(source_files, "_sha256", counted)
    return reads


def test_a_copy_with_other_times_has_the_same_fingerprint(source, tmp_path):
    shutil.copytree(source, tmp_path / "e" / "d", copy_function=shutil.copyfile)
    shutil.copytree(f"{source}_test", tmp_path / "e" / "d_test", copy_function=shutil.copyfile)
    os.utime(tmp_path / "e" / "d" / "a" / "a_0000.npy", ns=(FIXED, FIXED))
    assert fingerprint(tmp_path / "e" / "d") == fingerprint(source)


def test_the_fingerprint_changes_with_every_file_that_is_read(source, tmp_path):
    seen = {fingerprint(source)}

    def changed():
        new = fingerprint(source)
        fresh = new not in seen
        seen.add(new)
        return fresh

    np.save(source / "a" / "a_0009.npy", random_image(9))
    assert changed()
    (source / "a" / "a_0009.npy").rename(source / "a" / "a_0008.npy")
    assert changed()
    (source / "b" / "masses.csv").write_text("file,mass_ev\n")
    assert changed()
    for folder in (source, tmp_path / "d_test"):
        for table in ("masses.csv", "groups.csv", "images.yaml"):
            (folder / table).write_text("x")
            assert changed()
    (source / "a" / "broken.npy").symlink_to("nowhere")
    assert changed()
    np.save(tmp_path / "d_test" / "a" / "a_0000.npy", random_image(99))
    assert changed()
    (source / "notes.txt").write_text("not part of the fingerprint")
    assert not changed()


def test_other_images_of_the_same_size_and_time_are_found(source):
    path = source / "a" / "a_0001.npy"
    os.utime(path, ns=(FIXED, FIXED))
    first = source_state(scan_folders(source), {})
    np.save(path, random_image(77))
    os.utime(path, ns=(FIXED, FIXED))
    second = source_state(scan_folders(source), settled(first.records))
    assert second.fingerprint != first.fingerprint


def test_a_change_within_the_resolution_of_the_times_is_found(source, monkeypatch):
    """The status of the file is as it was, but it was recorded right after a change."""
    first = source_state(scan_folders(source), {})
    path = source / "a" / "a_0001.npy"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    records = {name: replace(record, sha256="0" * 64) for name, record in first.records.items()}
    assert (
        source_state(scan_folders(source), records).records["train/a/a_0001.npy"].sha256 == digest
    )
    kept = source_state(scan_folders(source), settled(records)).records["train/a/a_0001.npy"]
    assert kept.sha256 == "0" * 64  # not read: everything in its status is as it was


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_a_file_is_read_again_if_anything_in_its_status_differs(source, monkeypatch, field):
    state = source_state(scan_folders(source), {})
    records = settled(state.records)
    name = "test/b/b_0000.npy"
    records[name] = replace(records[name], **{field: getattr(records[name], field) - 1})
    reads = count_reads(monkeypatch)
    assert source_state(scan_folders(source), records).fingerprint == state.fingerprint
    assert reads == ["b_0000.npy"]


def test_what_is_no_regular_file_is_not_opened(source):
    os.mkfifo(source / "a" / "pipe.npy")
    (source / "a" / "loop.npy").symlink_to("loop.npy")
    with (source / "a" / "large.npy").open("wb") as stream:
        stream.truncate(10**12)
    begin = time.monotonic()
    records = source_state(scan_folders(source), {}).records
    assert time.monotonic() - begin < 5
    assert {name for name, record in records.items() if not record.sha256} == {
        "train/a/pipe.npy",
        "train/a/loop.npy",
        "train/a/large.npy",
    }
    assert not any(record.lasts for record in records.values() if not record.sha256)


def test_records_are_read_back(tmp_path):
    name = b"a/\xff, \n.npy".decode("utf-8", "surrogateescape")
    records = {name: FileRecord(1, 2, 3, 4, "a" * 64, 5), "b": FileRecord(0, 0, 0, 0, "", 9)}
    save_records(tmp_path / "records.csv", records)
    assert read_records(tmp_path / "records.csv", 2) == records


@pytest.mark.parametrize("content", [b"", b"name\nx,1\n", b"name\nx,1,2,3,4,5,six\n", b"\x00\xff"])
def test_damaged_records_count_as_none(tmp_path, content):
    (tmp_path / "records.csv").write_bytes(content)
    assert read_records(tmp_path / "records.csv", 2) == {}


def test_a_file_of_records_that_is_too_large_or_a_pipe_is_not_read(tmp_path):
    with (tmp_path / "large.csv").open("wb") as stream:
        stream.truncate(10**12)
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("large.csv", "pipe.csv", "none.csv"):
        assert read_records(tmp_path / name, 2) == {}


def test_records_are_renewed_only_where_that_spares_reading(tmp_path):
    path = tmp_path / "records.csv"
    recent = {"a": FileRecord(1, 2, 100, 4, "a" * 64, 100)}
    renew_records(path, {}, recent)
    assert not path.exists()
    renew_records(path, recent, settled(recent))
    assert read_records(path, 1) == settled(recent)
    renew_records(tmp_path / "none" / "records.csv", {}, settled(recent))  # read-only: no error
