"""SIGKILL at any moment loses at most the work since the last checkpoint."""

import random
import shutil
import signal
import time

import pandas as pd
import pytest

from deeplens_tf.runs.checkpoints import CheckpointStore
from tests.faults.conftest import checkpoints, command, outcome

KILLS = 10  # per stage

# The process kills itself at the n-th flush to the disk, while it writes a file.
KILL_AT_FLUSH = """
import os, signal
flushes, real = [], os.fsync
def fsync(descriptor):
    flushes.append(descriptor)
    if len(flushes) == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
"""


def assert_files_are_complete(folder, capsys):
    """Check the files of a killed run before it is resumed."""
    if (folder / "history.csv").exists():
        assert list(pd.read_csv(folder / "history.csv")["epoch"]) in ([0], [0, 1], [0, 1, 2])
    if checkpoints(folder):
        # Of a copy: `newest` removes drafts that the next start has to remove itself.
        copy = shutil.copytree(folder / "checkpoints", folder.parent / "copy")
        assert CheckpointStore(copy, keep=2).newest() is not None
        assert "damaged" not in capsys.readouterr().err
        shutil.rmtree(copy)


def wait_for_moment(generator, folder, seconds):
    """Wait for a random moment of the run, or of its next save."""
    end = time.monotonic() + seconds
    if generator.random() < 0.5:
        time.sleep(generator.uniform(0, seconds))
        return
    while not any((folder / "checkpoints").glob(".step-*")) and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(generator.uniform(0, 0.03))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_killed_at_ten_random_moments(stage, nursery, options, finished, tmp_path, capsys):
    seconds = finished.seconds(stage)
    expected = outcome(finished(stage))
    generator, kills, runs = random.Random(stage), 0, 0
    while kills < KILLS:
        runs += 1
        folder, code = tmp_path / f"run-{runs}", -signal.SIGKILL
        while code:
            child = nursery.start(
                *command(stage, options, folder, "--set", "checkpoint.every_steps=1")
            )
            if kills < KILLS:
                wait_for_moment(generator, folder, seconds)
                child.send(signal.SIGKILL)
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.err
            assert "damaged" not in child.err
            kills += code != 0
            assert_files_are_complete(folder, capsys)
        assert outcome(folder) == expected
    assert kills == KILLS


@pytest.mark.parametrize("n", [7, 10, 14])
def test_killed_while_writing(n, nursery, options, finished, tmp_path, capsys):
    """After config.yaml: in the files of the first checkpoint, and between two of them."""
    run = command("finetune", options, tmp_path / "run", "--set", "checkpoint.every_steps=2")
    code, _, _ = nursery.run(*run, before=KILL_AT_FLUSH.format(n=n))
    assert code == -signal.SIGKILL
    assert_files_are_complete(tmp_path / "run", capsys)
    assert nursery.run(*run)[0] == 0
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))
