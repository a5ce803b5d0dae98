"""Two processes that stand for two machines: they train one run together, through 127.0.0.1."""

import contextlib
import signal
import socket
import time

from tests.conftest import write_blobs
from tests.data.object_folders import write_objects
from tests.distribution.test_cluster import config as cluster_variables
from tests.faults.nursery import Nursery
from tests.training.stored_runs import TINY

LONGEST_S = 400  # on a machine that does much else
# What the process that prepares the images says of them.
PREPARED = "objects.csv: 60 objects of 120 images, each in one split\n"
# Twelve steps an epoch. SGD, for what is rounding in a sum becomes a step of Adam's.
WORDS = (
    *("--config", "contrastive", "--data", "blobs", "--set", "data.image_size=16"),
    *("--set", "data.validation_fraction=0.2", "--set", "train.batch_size=4"),
    *("--set", "encoder.patch_size=8", "--set", "optimizer.name=sgd", "--set", "train.epochs=2"),
    *("--set", "pretrain.projection_width=16", "--set", "train.jit_compile=false"),
)
# A network of one layer, which is soon traced.
SMALL = f"""
from deeplens_tf.models.vit import VARIANTS
VARIANTS["vit_nano"] = {TINY!r}
"""
CLUSTER = "import os; os.environ.update({variables!r})\n"
AT_STEP = """
import os, signal
from deeplens_tf.training.checkpointer import Checkpointer
real, steps = Checkpointer.on_train_batch_end, []
def on_train_batch_end(self, batch, logs=None):
    steps.append(batch)
    if len(steps) == {step}:
        os.kill(os.getpid(), signal.{signum})
    real(self, batch, logs)
Checkpointer.on_train_batch_end = on_train_batch_end
"""
SLOW_SAVE = """
import time
from deeplens_tf.runs.checkpoints import CheckpointStore
real_save = CheckpointStore.save
def save(self, *arguments):
    time.sleep(3)
    return real_save(self, *arguments)
CheckpointStore.save = save
"""


def told_to_stop(at):
    """What a process runs first to get a SIGTERM after a step, counted from where it begins."""
    return AT_STEP.format(step=at, signum=signal.SIGTERM.name)


def killed(at):
    """What a process runs first to be killed after a step, counted from where it begins."""
    return AT_STEP.format(step=at, signum=signal.SIGKILL.name)


def halted(at):
    """What a process runs first to be halted after a step, counted from where it begins."""
    return AT_STEP.format(step=at, signum=signal.SIGSTOP.name)


class Machines:
    """The folder `room`, with pairs of 48 objects to train on and 12 to validate, and its runs."""

    def __init__(self, folder):
        self.room = folder / "room"
        write_blobs(self.room / "blobs", 40, seed=0)
        files = sorted((self.room / "blobs").glob("*/*.npy"))
        names = (file.relative_to(self.room / "blobs").as_posix() for file in files)
        write_objects(self.room / "blobs", {name: i // 2 for i, name in enumerate(names)})
        (folder / "nursery").mkdir()
        self._nursery = Nursery(folder / "nursery")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._nursery.close()

    def start(self, run, *words, before=""):
        """Start a process that pretrains; `before` is Python that it runs first."""
        words = (*WORDS, "--run-dir", run, *words)
        return self._nursery.start("pretrain", *words, before=SMALL + before, cwd=self.room)

    def start_pair(self, run, *words, before=("", "")):
        """Start two that train together, the chief first."""
        with socket.socket() as first, socket.socket() as second:
            for free in (first, second):
                free.bind(("127.0.0.1", 0))
            workers = [f"127.0.0.1:{free.getsockname()[1]}" for free in (first, second)]
        variables = (cluster_variables({"worker": workers}, index=i) for i in range(2))
        words = ("--strategy", "multiworker", *words)
        return [
            self.start(run, *words, before=CLUSTER.format(variables=own) + first)
            for own, first in zip(variables, before, strict=True)
        ]

    def ended(self, process):
        """Wait for the end; return the exit code, what it said and what it complained of."""
        end = time.monotonic() + LONGEST_S
        while process.state != "Z" and time.monotonic() < end:
            time.sleep(0.02)
        late = process.state != "Z"
        if late:
            with contextlib.suppress(ProcessLookupError):
                process.send(signal.SIGKILL)
        code = process.wait()
        assert not late, f"never ended: {process.err}"
        return code, process.out, process.err
