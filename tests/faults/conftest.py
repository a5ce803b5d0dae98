"""Fixtures of the fault tests: stages to interrupt, and the result of uninterrupted runs."""

import hashlib
import json
import os
import subprocess
import time
import zipfile

import numpy as np
import pytest

from tests.faults.nursery import Nursery

EPOCHS, STEPS = 3, 5
PRETRAIN = ("--config", "byol")
FINETUNE = ("--head", "classification", "--encoder", "none")
NEEDS_ROOT = (
    "NOT TESTED: full and read-only disks. Mounting a small file system requires root: run "
    "`make test-faults` as root, for example in a container"
)
STAGES = {"pretrain": PRETRAIN, "finetune": FINETUNE}


def pytest_collection_modifyitems(items):
    """Mark the tests that take minutes, so that `make test` leaves them out."""
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def options(blobs_words):
    """Options that give every stage three epochs of five steps, with dropout."""
    quick = [
        f"train.epochs={EPOCHS}",
        "train.batch_size=9",
        "train.jit_compile=false",
        "encoder.dropout=0.1",
    ]
    return [argument for override in (*blobs_words, *quick) for argument in ("--set", override)]


def command(stage, options, folder, *more):
    """Return a stage and its arguments."""
    return (stage, *STAGES[stage], *options, *more, "--run-dir", str(folder))


class Finished:
    """Uninterrupted runs, each made on first use."""

    def __init__(self, nursery, options, folder):
        self.nursery, self.options, self.folder = nursery, options, folder
        self._seconds = {}

    def __call__(self, stage):
        """Return the folder of a stage's run."""
        folder = self.folder / stage
        if stage not in self._seconds:
            start = time.monotonic()
            code, _, err = self.nursery.run(*command(stage, self.options, folder))
            self._seconds[stage] = time.monotonic() - start
            assert (code, err) == (0, "")
        return folder

    def seconds(self, stage):
        """Return how long a stage's run took."""
        self(stage)
        return self._seconds[stage]


@pytest.fixture(scope="session")
def finished(nursery, options, tmp_path_factory):
    return Finished(nursery, options, tmp_path_factory.mktemp("finished"))


def checkpoints(folder):
    """Return the checkpoints of a run, the oldest first."""
    return sorted((folder / "checkpoints").glob("step-*"))


def outcome(folder):
    """Return the history of a run, and digests of its last state and of its product."""
    last = checkpoints(folder)[-1]
    with np.load(last / "arrays.npz") as archive:
        arrays = {key: hashlib.sha256(archive[key].tobytes()).hexdigest() for key in archive.files}
    state = json.loads((last / "state.json").read_text())
    return arrays, state, (folder / "history.csv").read_text(), product_weights(folder)


def product_weights(folder):
    """Return a digest of the weights in a run's product; the file also contains the date."""
    (product,) = folder.glob("*.keras")
    with zipfile.ZipFile(product) as archive:
        return hashlib.sha256(archive.read("model.weights.h5")).hexdigest()


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 48 MB and return its folder."""
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: full and read-only disks. {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder, leave):
    """Fill the file system of a folder up to `leave` bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "ballast").write_bytes(bytes(max(free - leave, 0)))
