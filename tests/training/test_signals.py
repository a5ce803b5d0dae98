"""The first signal waits, the second does not."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from deeplens_tf.training.signals import SAME_REQUEST_SECONDS, STOP_SIGNALS, StopRequest
from tests.conftest import REPOSITORY

# `time.sleep` gives way to signals; a long computation, which a step is, does not.
BUSY = """
import ctypes, sys
from deeplens_tf.training.signals import StopRequest
with StopRequest() as stop:
    print("busy", flush=True)
    libc = ctypes.CDLL(None)
    for _ in range(40):
        libc.usleep(ctypes.c_uint(100_000))
        if stop.requested and "--obey" in sys.argv:
            break
    print("saved", flush=True)
raise SystemExit(stop.stopped("x").exit_code)
"""


@pytest.fixture
def busy():
    """Start a process that is busy for four seconds; words are handed to it."""
    started = []

    def start(*words):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            [sys.executable, "-c", BUSY, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        assert process.stdout.readline() == "busy\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_is_a_request(busy, signum, code):
    process = busy("--obey")
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "saved\n", "")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_ends_at_once(busy, signum, code):
    process = busy()
    process.send_signal(signum)
    time.sleep(SAME_REQUEST_SECONDS + 0.2)
    process.send_signal(signum)
    began = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert (process.returncode, out) == (code, "")
    assert err == f"deeplens_tf: stopped by a second {signum.name}, at once\n"


def test_two_at_the_same_moment_are_one_request(busy):
    process = busy("--obey")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert process.communicate(timeout=30) == ("saved\n", "")
    assert process.returncode == 143


def test_the_handlers_are_those_of_before_afterwards():
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    threads = threading.active_count()
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_the_error_names_the_signal_and_where_it_goes_on():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
    error = stop.stopped("runs/a/checkpoints/step-000000005")
    assert error.exit_code == 130
    assert str(error).startswith(
        "stopped by SIGINT after saving runs/a/checkpoints/step-000000005;"
    )


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_there_is_nothing_to_hear():
    heard = []

    def train():
        with StopRequest() as stop:
            heard.append(stop.requested)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert heard == [False]
