"""The paths in a run's folder, its facts and its configuration."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config, load_config
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.files.products import ENCODER, MODEL
from deeplens_tf.files.shipped import copy_advice
from deeplens_tf.terminal import print_lines

RUNS = Path("runs")
RUN_TIME = "%Y%m%d-%H%M%S"  # in the name of a run's folder, local time
_TIME_IN_NAME = re.compile(r"-(\d{8}-\d{6})(?:-\d+)?$")


@dataclass(frozen=True)
class Run:
    """The folder of a run and the paths in it."""

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
    def initial_encoder(self) -> Path:
        """The encoder that a pretraining started from, if not from random weights: a copy."""
        return self.folder / "initial_encoder.keras"

    @property
    def model(self) -> Path:
        """The product of fine-tuning."""
        return self.folder / MODEL

    @property
    def history(self) -> Path:
        """One row per epoch; without a wall-clock column, so that equal runs give equal files."""
        return self.folder / "history.csv"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.folder / "figures"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's logs."""
        return self.folder / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints from which an interrupted run resumes."""
        return self.folder / "checkpoints"

    @property
    def environment(self) -> Path:
        """What the result depends on besides the configuration."""
        return self.folder / "environment.json"

    def facts(self) -> dict[str, Any]:
        """Return the content of environment.json; empty if it is missing or unreadable."""
        try:
            return read_json(self.environment)
        except (OSError, UnusableFile):
            return {}

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Add facts to environment.json; those of the same name are replaced."""
        content = (json.dumps(self.facts() | dict(facts), indent=2) + "\n").encode()
        write_whole(self.environment, lambda file: file.write(content), durable=True)

    def load_config(self) -> Config:
        """Return the configuration of the run.

        Raises:
            RequestError: no such folder, or it contains no valid configuration.
        """
        if not self.folder.is_dir():
            raise RequestError(f"{self.folder}: no such folder{copy_advice(self.folder)}")
        if not self.config.is_file():
            raise RequestError(f"{self.folder}: not a run folder: it has no config.yaml")
        return load_config(str(self.config))


def newest_run(*products: str) -> Run | None:
    """Return the run under `runs/` that has one of the files `products` and started last, or None.

    It may be a fine-tuning that is still training or was interrupted: its facts lack `finished`.
    """
    files = [path for product in products for path in RUNS.glob(f"*/{product}")]
    newest = max(files, key=lambda file: start_of(Run(file.parent), file), default=None)
    return Run(newest.parent) if newest else None


def require_newest_run(product: str, kind: str, *others: str) -> Run:
    """Return the run that `newest_run` finds, and print which it is.

    Args:
        product: name of its file.
        kind: of the run, for messages.
        *others: names of files of which the run may have one instead.

    Raises:
        RequestError: there is none.
    """
    run = newest_run(product, *others)
    if run is None:
        raise RequestError(f"no {kind} run under {RUNS}/: start one first, or give --run")
    unfinished = "" if run.facts().get("finished") else ", unfinished: its latest state is used"
    print_lines(f"run: {run.folder}, the newest {kind} run{unfinished}")
    return run


def start_of(run: Run, file: Path) -> tuple[float, str]:
    """Return when a run started, in seconds since 1970, and its name, to order runs by.

    A run records its start. For one of an earlier version it is the time in its name or, without
    one, that of `file`, which a copy of the folder may have changed.
    """
    recorded = _seconds_of(run.facts().get("started"))
    if recorded is None:
        recorded = _seconds_in_name(run.folder.name)
    return file.stat().st_mtime if recorded is None else recorded, run.folder.name


def _seconds_of(started: object) -> float | None:
    """Return an ISO time in seconds since 1970; None for anything else."""
    try:
        found = datetime.fromisoformat(str(started))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _seconds_in_name(name: str) -> float | None:
    found = _TIME_IN_NAME.search(name)
    try:
        return time.mktime(time.strptime(found[1], RUN_TIME)) if found else None
    except (ValueError, OverflowError):
        return None


def run_of(path: Path) -> Run | None:
    """Return the run to which `path`, a run folder or a file in one, belongs, or None."""
    folder = path if path.is_dir() else path.parent
    return Run(folder) if (folder / "config.yaml").is_file() else None
