"""SIGKILL at any moment costs at most what came after the last checkpoint."""

import random
import shutil
import signal
import time

import pandas as pd
import pytest

from deeplens_tf.runs.checkpoints import CheckpointStore
from tests.faults.conftest import checkpoints, command, outcome

KILLS = 10  # of each stage

# The process kills itself at the n-th flush to the disk: within a save, a history, a product.
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


def assert_nothing_is_torn(folder, capsys):
    """Check what a killed run left, as a user may look at it before it goes on."""
    if (folder / "history.csv").exists():
        assert list(pd.read_csv(folder / "history.csv")["epoch"]) in ([0], [0, 1], [0, 1, 2])
    if checkpoints(folder):
        # A copy, for looking at them sweeps what the next start has to sweep itself.
        copy = shutil.copytree(folder / "checkpoints", folder.parent / "copy")
        assert CheckpointStore(copy, keep=2).newest() is not None
        assert "damaged" not in capsys.readouterr().err
        shutil.rmtree(copy)


def wait_for_moment(generator, folder, seconds):
    """Wait for a moment of the run, or for one within its next save."""
    end = time.monotonic() + seconds
    if generator.random() < 0.5:
        time.sleep(generator.uniform(0, seconds))
        return
    while not any((folder / "checkpoints").glob(".step-*")) and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(generator.uniform(0, 0.03))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_killed_at_ten_random_moments(stage, nursery, words, finished, tmp_path, capsys):
    seconds = finished.seconds(stage)
    expected = outcome(finished(stage))
    generator, kills, runs = random.Random(stage), 0, 0
    while kills < KILLS:
        runs += 1
        folder, code = tmp_path / f"run-{runs}", -signal.SIGKILL
        while code:
            child = nursery.start(
                *command(stage, words, folder, "--set", "checkpoint.every_steps=1")
            )
            if kills < KILLS:
                wait_for_moment(generator, folder, seconds)
                child.send(signal.SIGKILL)
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.err
            assert "damaged" not in child.err
            kills += code != 0
            assert_nothing_is_torn(folder, capsys)
        assert outcome(folder) == expected
    assert kills == KILLS


@pytest.mark.parametrize("n", [7, 10, 14])
def test_killed_within_a_write(n, nursery, words, finished, tmp_path, capsys):
    """After config.yaml: within the first checkpoint's files, and between two of them."""
    run = command("finetune", words, tmp_path / "run", "--set", "checkpoint.every_steps=2")
    code, _, _ = nursery.run(*run, before=KILL_AT_FLUSH.format(n=n))
    assert code == -signal.SIGKILL
    assert_nothing_is_torn(tmp_path / "run", capsys)
    assert nursery.run(*run)[0] == 0
    assert outcome(tmp_path / "run") == outcome(finished("finetune"))
