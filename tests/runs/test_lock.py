"""One writer per run folder."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from deeplens_tf.errors import ResourceError
from deeplens_tf.runs.lock import LOCK, Holder, hold, refuse_if_held
from tests.conftest import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
from deeplens_tf.runs.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_holder(folder, **changes):
    holder = vars(Holder.this_process()) | changes
    (folder / LOCK).write_text(json.dumps(holder))


def no_flock(*_):
    raise OSError(errno.ENOTSUP, "Operation not supported")


@pytest.mark.parametrize("refuse", [lambda folder: hold(folder).__enter__(), refuse_if_held])
def test_a_second_writer_is_refused_and_the_first_is_named(other, tmp_path, refuse):
    with pytest.raises(ResourceError) as caught:
        refuse(tmp_path)
    assert f"{tmp_path} is in use by process {other.pid} on {os.uname().nodename}, started 20" in (
        str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == other.pid


@pytest.mark.parametrize("flock", [True, False])
def test_a_killed_holder_is_recognised(other, tmp_path, monkeypatch, capsys, flock):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / LOCK).exists()
    if not flock:
        monkeypatch.setattr("fcntl.flock", no_flock)
    refuse_if_held(tmp_path)
    with hold(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert f"left behind by process {other.pid}" in capsys.readouterr().out
    assert not (tmp_path / LOCK).exists()


def test_a_released_lock_leaves_no_file_and_can_be_taken_again(tmp_path, capsys):
    for _ in range(2):
        with hold(tmp_path):
            assert (tmp_path / LOCK).exists()
        assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_an_error_releases_the_lock_too(tmp_path):
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    with hold(tmp_path):
        pass


def test_a_process_cannot_take_its_own_lock_twice(tmp_path):
    with hold(tmp_path), pytest.raises(ResourceError, match=f"process {os.getpid()} "):
        hold(tmp_path).__enter__()


def test_without_flock_a_running_holder_in_the_file_is_respected(other, tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", no_flock)
    with pytest.raises(ResourceError, match=f"in use by process {other.pid} on "):
        hold(tmp_path).__enter__()


def test_without_flock_a_holder_on_another_machine_counts_as_alive(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", no_flock)
    write_holder(tmp_path, host="node17", pid=1)
    with pytest.raises(ResourceError, match=r"process 1 on node17.*if it has ended, remove .*lock"):
        hold(tmp_path).__enter__()


def test_with_flock_a_job_resumes_on_another_machine_unattended(tmp_path, capsys):
    write_holder(tmp_path, host="node17", pid=1, started="2026-01-01 00:00:00")
    refuse_if_held(tmp_path)
    with hold(tmp_path):
        pass
    assert capsys.readouterr().out == (
        f"lock: {tmp_path} was left behind by process 1 on node17, started 2026-01-01 00:00:00\n"
    )


def test_a_later_process_with_the_same_id_is_not_the_holder(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", no_flock)
    write_holder(tmp_path, birth="1")
    assert Holder.this_process().birth not in ("", "1")
    with hold(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', "\0" * 100])
def test_an_invalid_lock_file_names_no_holder(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    refuse_if_held(tmp_path)
    with hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(ResourceError, match=r"none: cannot be written to: No such file"):
        hold(tmp_path / "none").__enter__()
