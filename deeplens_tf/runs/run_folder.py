"""The run folder: what a run was, on what, and what it left."""

import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from deeplens_tf.config import FROM_SCRATCH, Config, load_config, save_config
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import (
    PARTIAL_SUFFIX,
    write_whole,
)
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.checkpoints import FORMAT
from deeplens_tf.runs.identity import deciding_settings
from deeplens_tf.runs.lock import LOCK

RUNS = Path("runs")
PARTIAL = ".partial-"  # what a file of the run is called until it is whole
PACKAGES = ("deeplens_tf", "tensorflow", "keras", "numpy", "scikit-learn", "lenstronomy")
UNKNOWN = "unknown"  # as the method of an encoder of which no run tells
ENCODER = "encoder.keras"
MODEL = "model.keras"


@dataclass(frozen=True)
class Run:
    """One run's folder and the paths in it."""

    folder: Path

    @property
    def config(self) -> Path:
        """The complete configuration."""
        return self.folder / "config.yaml"

    @property
    def encoder(self) -> Path:
        """The product of pretraining."""
        return self.folder / ENCODER

    @property
    def model(self) -> Path:
        """The product of fine-tuning."""
        return self.folder / MODEL

    @property
    def history(self) -> Path:
        """One row an epoch; no wall-clock column, so that equal runs give equal files."""
        return self.folder / "history.csv"

    @property
    def figures(self) -> Path:
        """The pictures."""
        return self.folder / "figures"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's logs."""
        return self.folder / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """What a run goes on from after it was broken off."""
        return self.folder / "checkpoints"

    @property
    def environment(self) -> Path:
        """What the result depends on beside the configuration."""
        return self.folder / "environment.json"

    def facts(self) -> dict[str, Any]:
        """Return what environment.json says; nothing where there is none that can be read."""
        try:
            return read_json(self.environment)
        except (OSError, UnusableFile):
            return {}

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Write what is new, and what was known before, to environment.json."""
        content = (json.dumps(self.facts() | dict(facts), indent=2) + "\n").encode()
        write_whole(self.environment, lambda file: file.write(content), durable=True)

    def load_config(self) -> Config:
        """Read the configuration that the run was started with.

        Raises:
            RequestError: the folder holds none, or an unreadable one.
        """
        if not self.config.is_file():
            raise RequestError(f"{self.folder} is no run folder: it has no config.yaml")
        return load_config(str(self.config))


def create_run(
    stage: str,
    name: str,
    config: Config,
    run_dir: str | None,
    facts: Mapping[str, Any],
) -> Run:
    """Make the folder of a new run and write what it is before it does anything.

    Args:
        stage: "pretrain" or "finetune".
        name: the configuration's name.
        config: complete configuration.
        run_dir: the folder, or None for `runs/<stage>-<name>-<time>`.
        facts: what only the stage knows of its run; they go to environment.json.

    Raises:
        RequestError: the folder already holds something.
    """
    run = Run(Path(run_dir) if run_dir else new_folder(stage, name))
    require_free(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    made = {"stage": stage, "checkpoint_format": FORMAT}
    run.environment.unlink(missing_ok=True)  # of one that was killed right here
    run.add_facts(describe_environment() | made | dict(facts))
    save_config(config, run.config)  # the last, for it is what makes the folder a run
    return run


def new_folder(stage: str, name: str) -> Path:
    """Return `runs/<stage>-<name>-<time>`, made; of two that ask at once each gets its own."""
    named = RUNS / f"{stage}-{Path(name).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    RUNS.mkdir(parents=True, exist_ok=True)
    later = (named.with_name(f"{named.name}-{i}") for i in itertools.count(2))
    return next(filter(_made, itertools.chain([named], later)))


def require_free(folder: Path) -> None:
    """Refuse a folder that holds anything but what a run killed at its start leaves.

    Raises:
        RequestError: it is in use, or no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
        raise RequestError(f"{folder} is already in use: give --run-dir a new folder")


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _is_foreign(path: Path) -> bool:
    ours = path.name in (LOCK, "environment.json") or path.name.endswith(PARTIAL_SUFFIX)
    return not ours


def encoder_origin(path: str) -> dict[str, Any]:
    """Return where an encoder came from: its file's digest and, if known, how it was made.

    Args:
        path: run folder or file, or `FROM_SCRATCH`.

    Returns:
        `path`, `sha256` of the file that is loaded, and what `features_origin` tells of its run.

    Raises:
        RequestError: there is no such encoder.
    """
    if path == FROM_SCRATCH:
        return {"method": None}
    from deeplens_tf.saving.keras_files import encoder_file

    file = encoder_file(Path(path))
    run = run_of(file)
    made = {"method": UNKNOWN} if run is None else features_origin(run)
    return {"path": path, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} | made


def features_origin(run: Run) -> dict[str, Any]:
    """Return how the encoder that a run left was made.

    Returns:
        `method` and `pretexts` of the pretraining, None and none where there was none; `epochs`,
        `seed` and `settings` (see `deciding_settings`) of the run. Where the run is a
        fine-tuning, `supervised` is true, for labels had a part in the features, and `before`
        says what it began with.
    """
    facts, config = run.facts(), run.load_config()
    stage = facts.get("stage")
    if stage not in ("pretrain", "finetune"):
        return {"method": UNKNOWN}
    settings = deciding_settings(config, stage) | {"data": facts.get("dataset_fingerprint")}
    made = {"epochs": config.train.epochs, "seed": config.seed, "settings": settings}
    if stage == "pretrain":
        return {"method": config.pretrain.method, "pretexts": list(config.augment.views)} | made
    before = facts.get("encoder")
    before = before if isinstance(before, dict) else {"method": UNKNOWN}
    first = {"method": before.get("method"), "pretexts": before.get("pretexts", [])}
    return first | made | {"supervised": True, "before": before}


def newest_run(product: str) -> Run | None:
    """Return the run under `runs/` whose product of that name is the newest, if there is one.

    It may be a fine-tuning that is still training, or was broken off; its facts lack `finished`.
    """
    products = sorted(RUNS.glob(f"*/{product}"), key=lambda path: path.stat().st_mtime)
    return Run(products[-1].parent) if products else None


def run_of(path: Path) -> Run | None:
    """Return the run that `path`, a run folder or a product in one, belongs to, if it does."""
    folder = path if path.is_dir() else path.parent
    return Run(folder) if (folder / "config.yaml").is_file() else None


def describe_environment() -> dict[str, Any]:
    """Return versions, device and revision: what a result depends on beside its configuration."""
    import tensorflow as tf

    return {
        "command": [Path(sys.argv[0]).stem, *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "git_revision": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_revision() -> str | None:
    """Return the revision of the checkout that the package runs from, if it is one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None
