"""Small runs that were interrupted in an earlier version of the package, kept in `stored_run/`.

    python -m tests.training.stored_runs

recreates them, see the README there. The images are free of rounding errors, which depend on the
processor: a run can only be resumed with exactly the images with which it started.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from deeplens_tf import finetune, pretrain
from deeplens_tf.errors import Stopped
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.training.checkpointer import Checkpointer
from tests.conftest import CLASSES

STORED = Path(__file__).parent / "stored_run"
IMAGES, SIDE = 12, 8  # images per class, and pixels per side
TINY = dict(patch_size=4, width=6, depth=1, heads=2, mlp_width=8)
QUICK = (
    *("--data", "images", "--set", "data.image_size=8", "--set", "data.cache=cache"),
    *("--set", "data.validation_fraction=0.25", "--set", "train.batch_size=9"),
    *("--set", "train.epochs=2", "--set", "train.jit_compile=false"),
    *("--set", "encoder.patch_size=4", "--set", "encoder.dropout=0.1"),
)
BYOL = ("--set", "pretrain.byol.hidden_width=8", "--set", "pretrain.projection_width=6")
STAGES = {
    "pretrain": (pretrain.main, ("--config", "byol", *BYOL, *QUICK)),
    "finetune": (finetune.main, ("--head", "classification", "--encoder", "none", *QUICK)),
}
STOPPED_AT = {"pretrain": 4, "finetune": 2}  # steps; an epoch has three
MACHINE_FACTS = ("command", "python", "platform", "processor", "cores", "devices", "git_revision")


def run(stage, folder, *argv, stop_at=None):
    """Run a stage in the current folder on a network of a few hundred weights."""
    main, options = STAGES[stage]
    real, steps = Checkpointer.on_train_batch_end, []

    def on_train_batch_end(self, batch, logs=None):
        steps.append(batch)
        if len(steps) == stop_at:
            signal.raise_signal(signal.SIGTERM)
        real(self, batch, logs)

    with (
        patch.dict(VARIANTS, vit_nano=TINY),
        patch.object(Checkpointer, "on_train_batch_end", on_train_batch_end),
    ):
        main([*options, "--run-dir", str(folder), *argv])


def write_images(folder):
    """Write images of whole numbers with a bright square whose position depends on the class."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(IMAGES):
            image = generator.integers(0, 32, (SIDE, SIDE)).astype("float32")
            image[2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 64
            np.save(folder / name / f"{name}_sim_{i:03d}.npy", image)


def store(stage):
    """Store what is needed to resume a stage's run, and the history that it should end with."""
    run(stage, "complete")
    with contextlib.suppress(Stopped):
        run(stage, "interrupted", stop_at=STOPPED_AT[stage])
    kept = STORED / stage
    shutil.copytree("interrupted/checkpoints", kept / "checkpoints")
    shutil.copy("interrupted/config.yaml", kept)
    shutil.copy("complete/history.csv", kept / "expected.csv")
    facts = Run(Path("interrupted")).facts()
    facts = {name: fact for name, fact in facts.items() if name not in MACHINE_FACTS}
    (kept / "environment.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    for stage in STAGES:
        shutil.rmtree(STORED / stage, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            write_images(Path("images"))
            store(stage)
            os.chdir(STORED)
