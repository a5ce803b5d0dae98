"""One of two processes that train together is lost: the other ends, and both can resume."""

import io
import signal
import time

import pandas as pd
import pytest

from tests.distribution.two_machines import PREPARED, Machines, halted, killed
from tests.faults.conftest import checkpoints, outcome

LOST_AT, LAST_SAVED = 8, "step-000000006"
SAVING = ("--set", "checkpoint.every_steps=3", "--set", "train.epochs=1")


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with Machines(tmp_path_factory.mktemp("machines")) as machines:
        yield machines


@pytest.fixture(scope="module")
def uninterrupted(machines):
    """The outcome of a run by two processes that is not interrupted."""
    for process in machines.start_pair("uninterrupted", *SAVING):
        code, _, err = machines.ended(process)
        assert (code, err.removeprefix(PREPARED)) == (0, "")
    return outcome(machines.room / "uninterrupted")


def lose(machines, run, how, lost):
    """Lose one process after a step; return how long the other ran on, and how it ended."""
    before = ["", ""]
    before[lost] = how(LOST_AT)
    processes = machines.start_pair(run, *SAVING, before=before)
    processes[lost].wait_for(lambda: processes[lost].state in "TZ")
    start = time.monotonic()
    ended = machines.ended(processes[1 - lost])
    seconds = time.monotonic() - start
    processes[lost].send(signal.SIGKILL)
    assert processes[lost].wait() == -signal.SIGKILL
    return seconds, ended


def assert_reports_the_loss(ended, worker):
    code, _, err = ended
    assert code == 4, err
    # TensorFlow's own messages come before it.
    last = err.splitlines()[-1]
    assert last.startswith(f"deeplens_tf: worker {worker} of 2 ends because another worker has")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_worker_ends_the_other_and_both_resume(machines, uninterrupted, lost):
    run = f"killed-{lost}"
    seconds, ended = lose(machines, run, killed, lost)
    assert_reports_the_loss(ended, 1 - lost)
    assert seconds < 20
    assert checkpoints(machines.room / run)[-1].name == LAST_SAVED
    ended = [machines.ended(process) for process in machines.start_pair(run, *SAVING)]
    assert [code for code, _, _ in ended] == [0, 0]
    assert f"resumed: {run}/checkpoints/{LAST_SAVED}\n" in ended[0][1]
    arrays, _, history, product = outcome(machines.room / run)
    assert (arrays, product) == (uninterrupted[0], uninterrupted[3])
    # Each worker sums the metrics of its part: in an interrupted epoch in another order.
    tables = [pd.read_csv(io.StringIO(text)) for text in (history, uninterrupted[2])]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_a_halted_worker_ends_the_other(machines):
    """As if a machine no longer answered, without closing its connections."""
    seconds, ended = lose(machines, "halted", halted, 1)
    assert_reports_the_loss(ended, 0)
    assert 1 < seconds < 60
    assert checkpoints(machines.room / "halted")[-1].name == LAST_SAVED
