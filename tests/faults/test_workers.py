"""Two processes train the same as one, stop together and resume together."""

import json

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.saving.keras_files import load_encoder
from tests.distribution.two_machines import PREPARED, SLOW_SAVE, Machines, told_to_stop
from tests.faults.conftest import checkpoints
from tests.models.tiny import values_of

TOLERANCE = 1e-5
TWO_DEVICES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with Machines(tmp_path_factory.mktemp("machines")) as machines:
        yield machines


@pytest.fixture(scope="module")
def one(machines):
    """The folder of a run by one process on one device."""
    assert machines.ended(machines.start("one", "--strategy", "none"))[0] == 0
    return machines.room / "one"


@pytest.fixture(scope="module")
def pair(machines):
    """A run by two processes, stopped in the middle of an epoch by a signal to one, and resumed.

    How both ended, the checkpoints when that one had ended, how both ended after resuming.
    """
    chief, other = machines.start_pair("pair", before=(SLOW_SAVE, told_to_stop(at=5)))
    other = machines.ended(other)
    kept = [path.name for path in checkpoints(machines.room / "pair")]
    first = (machines.ended(chief), other)
    return first, kept, [machines.ended(process) for process in machines.start_pair("pair")]


def assert_same_encoder(run, other):
    ours, theirs = (values_of(load_encoder(folder)).values() for folder in (run, other))
    for weights, others in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(weights, others, rtol=0, atol=TOLERANCE)


def test_two_processes_stop_together_when_one_gets_a_signal(machines, pair):
    (chief, other), kept, _ = pair
    assert (chief[0], other[0]) == (143, 143)
    assert kept == [
        "step-000000010"
    ]  # of the twelve of an epoch; signals are exchanged at every tenth
    saved = "pair/checkpoints/step-000000010"
    for err, where in ((chief[2], saved), (other[2], "on worker 0")):
        assert err.removeprefix(PREPARED) == (
            f"deeplens_tf: stopped by SIGTERM after saving {where}; the same command with "
            "--run-dir, or --resume, continues from there\n"
        )


def test_two_processes_train_the_same_as_one_despite_the_stop(machines, pair, one):
    _, _, (chief, other) = pair
    assert (chief[0], other[0], other[2]) == (0, 0, "")
    (line,) = chief[2].splitlines()  # twelve steps of four pairs teach nothing
    assert line.startswith("warning: epoch 2: the loss is ")
    assert "resumed: pair/checkpoints/step-000000010\n" in chief[1]
    assert_same_encoder(machines.room / "pair", one)
    histories = [pd.read_csv(machines.room / name / "history.csv") for name in ("one", "pair")]
    pd.testing.assert_frame_equal(*histories, rtol=1e-4)


def test_two_devices_of_a_process_train_the_same_as_one(machines, one):
    words = ("--strategy", "mirrored")
    assert machines.ended(machines.start("mirrored", *words, before=TWO_DEVICES))[0] == 0
    assert_same_encoder(machines.room / "mirrored", one)
    facts = json.loads((machines.room / "mirrored" / "environment.json").read_text())
    assert (facts["replicas"], facts["workers"]) == (2, 1)


def test_only_the_chief_writes_and_prints(machines, pair):
    assert {path.name for path in machines.room.iterdir()} - {"one", "mirrored"} == {
        "blobs",
        "pair",
        "runs",
    }
    assert {path.name for path in (machines.room / "runs").iterdir()} == {"cache"}
    _, _, ((_, out, _), (_, other_out, _)) = pair
    assert "encoder: pair/encoder.keras" in out
    assert set(other_out.splitlines()) <= {line for line in out.splitlines() if "cache" in line}
    facts = json.loads((machines.room / "pair" / "environment.json").read_text())
    assert (facts["replicas"], facts["workers"]) == (2, 2)
