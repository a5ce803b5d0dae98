"""One of two processes that train together is lost: the other ends, and both go on from there."""

import io
import signal
import time

import pandas as pd
import pytest

from tests.faults.conftest import checkpoints, outcome
from tests.training.two_machines import Machines, halted, killed

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


@pytest.mark.parametrize(
    ("how", "lost", "longest_s"), [(killed, 0, 20), (killed, 1, 20), (halted, 1, 60)]
)
def test_a_lost_worker_ends_the_other_and_both_go_on(machines, unbroken, how, lost, longest_s):
    run = f"{how.__name__}-{lost}"
    before = ["", ""]
    before[lost] = how(LOST_AT)
    processes = machines.start_pair(run, *SAVING, before=before)
    processes[lost].wait_for(lambda: processes[lost].state in "TZ")
    began = time.monotonic()
    code, _, err = machines.ended(processes[1 - lost])
    took = time.monotonic() - began
    processes[lost].send(signal.SIGKILL)
    assert processes[lost].wait() == -signal.SIGKILL
    assert code == 4, err
    assert took < longest_s
    # Above it TensorFlow says what it saw.
    last = err.splitlines()[-1]
    assert last.startswith(f"deeplens_tf: worker {1 - lost} of 2 ends, for another has ended or")
    assert checkpoints(machines.room / run)[-1].name == LAST_SAVED
    ended = [machines.ended(process) for process in machines.start_pair(run, *SAVING)]
    assert [code for code, _, _ in ended] == [0, 0]
    assert f"resumed: {run}/checkpoints/{LAST_SAVED}\n" in ended[0][1]
    arrays, _, history, product = outcome(machines.room / run)
    assert (arrays, product) == (unbroken[0], unbroken[3])
    # Each worker sums up the metrics of its own part: of a broken epoch in another order.
    tables = [pd.read_csv(io.StringIO(text)) for text in (history, unbroken[2])]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)
