"""The run folder: what a run was, on what, and what it left."""

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
