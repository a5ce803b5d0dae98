"""Stages in separate processes, without the time that importing TensorFlow takes each time.

A parent imports everything once and forks a child for each stage; TensorFlow survives a fork if it
has been imported but not used. The children are real processes: they can be killed, and they exit
with the stage's own exit code. Run as a program, this module is the parent: it reads one request
per line from standard input and answers with one line.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "KERAS_BACKEND": "tensorflow"}


class Child:
    """A running stage."""

    def __init__(self, nursery, pid, folder):
        self.nursery, self.pid, self.folder = nursery, pid, folder

    @property
    def out(self):
        return (self.folder / "out").read_text()

    @property
    def err(self):
        return (self.folder / "err").read_text()

    def send(self, signum):
        os.kill(self.pid, signum)

    def wait(self):
        """Return the exit code, or the negative number of the signal that ended it."""
        return self.nursery.request({"wait": self.pid})

    @property
    def state(self):
        """The kernel's code of its state: T if stopped, Z if ended but not yet waited for."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait_for(self, condition, seconds=240):
        """Wait until `condition()` is true; fail if the process ends first or the time is up."""
        end = time.monotonic() + seconds
        while not condition():
            # It may have ended since, as the condition asks.
            assert self.state != "Z" or condition(), f"ended too early: {self.err}"
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.005)


class Nursery:
    """The parent process, as used by the tests."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=REPOSITORY,
            env={**os.environ, **QUIET},
            stderr=subprocess.DEVNULL,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.count = 0

    def request(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, stage, *argv, before="", cwd=None):
        """Start a stage; `before` is Python code that the process runs first, to cause a fault."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        for name in ("out", "err"):  # the process may be killed before it opens them
            (folder / name).touch()
        request = {"stage": stage, "argv": list(map(str, argv)), "before": before}
        pid = self.request(request | {"folder": str(folder), "cwd": str(cwd or folder)})
        return Child(self, pid, folder)

    def run(self, stage, *argv, **options):
        """Run a stage to its end; return its exit code, its output and its stderr."""
        child = self.start(stage, *argv, **options)
        return child.wait(), child.out, child.err

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def make_shallow():
    """Reduce the default network to one layer, for speed: no fault depends on its depth."""
    from deeplens_tf.models.vit import VARIANTS

    VARIANTS["vit_nano"]["depth"] = 1


def _serve():
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import deeplens_tf.training.finetuning
    import deeplens_tf.training.pretraining  # noqa: F401

    make_shallow()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _run(request)
        print(json.dumps(answer), flush=True)


def _run(request):
    folder = Path(request["folder"])
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    code = 1
    try:
        exec(request["before"], {})
        _stage(request["stage"], request["argv"])
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _stage(name, argv):
    from deeplens_tf.cli import run_stage

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = argv
    run_stage(importlib.import_module(f"deeplens_tf.{name}").main)


if __name__ == "__main__":
    _serve()
