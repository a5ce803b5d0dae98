"""What the faults have in common: stages to break, and what they end with unbroken."""

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
    "NOT TESTED: full and read-only disks. Mounting a small file system takes root: run "
    "`make test-faults` as root, for example in a container"
)
STAGES = {"pretrain": PRETRAIN, "finetune": FINETUNE}


def pytest_collection_modifyitems(items):
    """Mark what takes minutes, and keep it out of `make test`."""
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def words(blobs_words):
    """Options that give every stage three epochs of five steps, with dropout."""
    quick = [
        f"train.epochs={EPOCHS}",
        "train.batch_size=9",
        "train.jit_compile=false",
        "encoder.dropout=0.1",
    ]
    return [part for word in (*blobs_words, *quick) for part in ("--set", word)]


def command(stage, words, folder, *more):
    """Return a stage and its options."""
    return (stage, *STAGES[stage], *words, *more, "--run-dir", str(folder))


class Finished:
    """Uninterrupted runs, each made when it is first asked for."""

    def __init__(self, nursery, words, folder):
        self.nursery, self.words, self.folder = nursery, words, folder
        self._seconds = {}

    def __call__(self, stage):
        """Return the folder of a stage's run."""
        folder = self.folder / stage
        if stage not in self._seconds:
            began = time.monotonic()
            code, _, err = self.nursery.run(*command(stage, self.words, folder))
            self._seconds[stage] = time.monotonic() - began
            assert (code, err) == (0, "")
        return folder

    def seconds(self, stage):
        """Return how long it took."""
        self(stage)
        return self._seconds[stage]


@pytest.fixture(scope="session")
def finished(nursery, words, tmp_path_factory):
    return Finished(nursery, words, tmp_path_factory.mktemp("finished"))


def checkpoints(folder):
    """Return the checkpoints of a run, the oldest first."""
    return sorted((folder / "checkpoints").glob("step-*"))


def outcome(folder):
    """Return what a run leaves: its history, and digests of its last state and its product."""
    last = checkpoints(folder)[-1]
    with np.load(last / "arrays.npz") as archive:
        arrays = {key: hashlib.sha256(archive[key].tobytes()).hexdigest() for key in archive.files}
    state = json.loads((last / "state.json").read_text())
    return arrays, state, (folder / "history.csv").read_text(), product_weights(folder)


def product_weights(folder):
    """Return a digest of the weights in a run's product; the rest of it holds the date."""
    (product,) = folder.glob("*.keras")
    with zipfile.ZipFile(product) as archive:
        return hashlib.sha256(archive.read("model.weights.h5")).hexdigest()


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 48 MB, which `fill` fills, and return where."""
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: full and read-only disks. {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(place, leave):
    """Fill a file system but for `leave` bytes."""
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    (place / "ballast").write_bytes(bytes(max(free - leave, 0)))
