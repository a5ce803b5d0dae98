"""The paths in a run's folder, its facts and its configuration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config, load_config
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.files.products import ENCODER, MODEL

RUNS = Path("runs")


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
            raise RequestError(f"{self.folder}: no such folder")
        if not self.config.is_file():
            raise RequestError(f"{self.folder}: not a run folder: it has no config.yaml")
        return load_config(str(self.config))


def newest_run(product: str) -> Run | None:
    """Return the run under `runs/` with the newest file of the name `product`, or None.

    It may be a fine-tuning that is still training or was interrupted: its facts lack `finished`.
    """
    products = sorted(RUNS.glob(f"*/{product}"), key=lambda path: path.stat().st_mtime)
    return Run(products[-1].parent) if products else None


def run_of(path: Path) -> Run | None:
    """Return the run to which `path`, a run folder or a file in one, belongs, or None."""
    folder = path if path.is_dir() else path.parent
    return Run(folder) if (folder / "config.yaml").is_file() else None
