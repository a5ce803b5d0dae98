"""One of two processes that train together is lost: the other ends, and both go on from there."""

import io
import signal
import time

import pandas as pd
import pytest

from tests.distribution.two_machines import Machines, halted, killed
from tests.faults.conftest import checkpoints, outcome

LOST_AT, LAST_SAVED = 8, "step-000000006"
SAVING = ("--set", "checkpoint.every_steps=3", "--set", "train.epochs=1")


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with Machines(tmp_path_factory.mktemp("machines")) as machines:
        yield machines


@pytest.fixture(scope="module")
def unbroken(machines):
    """What two processes leave that nothing happens to."""
    for process in machines.start_pair("unbroken", *SAVING):
        code, _, err = machines.ended(process)
        assert (code, err) == (0, "")
    return outcome(machines.room / "unbroken")


def lose(machines, run, how, lost):
    """Lose one of two processes after a step; return how long the other went on, and its end."""
    before = ["", ""]
    before[lost] = how(LOST_AT)
    processes = machines.start_pair(run, *SAVING, before=before)
    processes[lost].wait_for(lambda: processes[lost].state in "TZ")
    began = time.monotonic()
    ended = machines.ended(processes[1 - lost])
    seconds = time.monotonic() - began
    processes[lost].send(signal.SIGKILL)
    assert processes[lost].wait() == -signal.SIGKILL
    return seconds, ended


def assert_says_so(ended, worker):
    code, _, err = ended
    assert code == 4, err
    # Above it TensorFlow says what it saw.
    last = err.splitlines()[-1]
    assert last.startswith(f"deeplens_tf: worker {worker} of 2 ends, for another has ended or")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_worker_ends_the_other_and_both_go_on(machines, unbroken, lost):
    run = f"killed-{lost}"
    seconds, ended = lose(machines, run, killed, lost)
    assert_says_so(ended, 1 - lost)
    assert seconds < 20
    assert checkpoints(machines.room / run)[-1].name == LAST_SAVED
    ended = [machines.ended(process) for process in machines.start_pair(run, *SAVING)]
    assert [code for code, _, _ in ended] == [0, 0]
    assert f"resumed: {run}/checkpoints/{LAST_SAVED}\n" in ended[0][1]
    arrays, _, history, product = outcome(machines.room / run)
    assert (arrays, product) == (unbroken[0], unbroken[3])
    # Each worker sums up the metrics of its own part: of a broken epoch in another order.
    tables = [pd.read_csv(io.StringIO(text)) for text in (history, unbroken[2])]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_a_halted_worker_ends_the_other(machines):
    """A machine that no longer answers, and has not closed its connections either."""
    seconds, ended = lose(machines, "halted", halted, 1)
    assert_says_so(ended, 0)
    assert 1 < seconds < 60
    assert checkpoints(machines.room / "halted")[-1].name == LAST_SAVED
