"""A run in MLflow, by its package `mlflow-skinny`, an extra.

The environment variable MLFLOW_TRACKING_URI says where; without it, it is the folder `runs/mlruns`.
"""

import os
import re
import time
from collections.abc import Iterator
from typing import Any

from deeplens_tf.errors import RequestError
from deeplens_tf.runs.identity import flattened
from deeplens_tf.runs.run_folder import RUNS, Run
from deeplens_tf.terminal import print_lines, printable, shortened
from deeplens_tf.tracking.run_record import record, recorded
from deeplens_tf.tracking.service import Description, Ending, Values

URI = "MLFLOW_TRACKING_URI"
STATUS: dict[Ending | None, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
MAX_PARAMETERS = 100  # in one request
IN_EVERY_ROW = "loss"
FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)  # in the name of a parameter or a metric


class MlflowService:
    """A run in MLflow; its parameters, which cannot change there, are those of the first command.

    Args:
        run: the run folder.
        experiment: of MLflow; created if it is missing.
        description: of the run.

    Raises:
        RequestError: the package for this kind of storage is not installed.
    """

    def __init__(self, run: Run, experiment: str, description: Description) -> None:
        uri = os.environ.get(URI) or (RUNS / "mlruns").resolve().as_uri()
        if uri.startswith("file:") or "://" not in uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        self._entities = entities
        try:
            self._client = MlflowClient(tracking_uri=uri)
        except ImportError as error:
            raise RequestError(
                f"logging.mlflow: {URI} needs {error.name}: pip install mlflow"
            ) from error
        known = recorded(run, "mlflow")
        if known.get("experiment") == experiment and self._has(known["id"]):
            self._id = known["id"]
            if description.trains:
                self._client.update_run(self._id, "RUNNING")
        else:
            self._id = self._created(experiment, description)
            record(run, "mlflow", {"experiment": experiment, "id": self._id})
        print_lines(f"logging: MLflow, experiment {experiment}, run {self._id}")

    def epochs(self) -> int:
        """Return the number of epochs that MLflow has."""
        steps = [each.step for each in self._client.get_metric_history(self._id, IN_EVERY_ROW)]
        return max(steps, default=-1) + 1

    def log(self, epoch: int, values: Values) -> None:
        """Add the values of an epoch under its number as the step."""
        now_ms = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(_allowed(name), value, now_ms, epoch)
            for name, value in values.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def log_results(self, values: Values) -> None:
        """Set metrics without a step."""
        for part in _parts(list(values.items())):
            self.log(0, dict(part))

    def close(self, ending: Ending | None) -> None:
        """Set the status of the run, if it was training."""
        if ending is not None:
            self._client.set_terminated(self._id, STATUS[ending])

    def _has(self, identifier: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(identifier).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # elsewhere, or removed
                return False
            raise

    def _created(self, name: str, description: Description) -> str:
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        tags = {_allowed(key): _text(value) for key, value in flattened(description.facts).items()}
        created = self._client.create_run(experiment, tags=tags, run_name=description.name)
        parameters = [
            self._entities.Param(_allowed(key), _text(value))
            for key, value in flattened(description.config).items()
        ]
        for part in _parts(parameters):
            self._client.log_batch(created.info.run_id, params=part)
        return str(created.info.run_id)


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), MAX_PARAMETERS):
        yield items[start : start + MAX_PARAMETERS]


def _allowed(name: str) -> str:
    return FORBIDDEN.sub("_", name)


def _text(value: object) -> str:
    return "null" if value is None else shortened(printable(value))
