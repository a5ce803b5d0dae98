"""The services of a run during a command: they are opened, told what is new, and closed.

What the services lack is read from `history.csv`, so a run that was killed, or whose service was
not there for a while, is complete after the next command.
"""

import contextlib
import csv
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deeplens_tf.config import LoggingConfig
from deeplens_tf.dataclass_parsing import to_plain
from deeplens_tf.errors import Stopped
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import print_lines
from deeplens_tf.tracking.mlflow_service import MlflowService
from deeplens_tf.tracking.service import Description, Ending, Guarded, Service
from deeplens_tf.tracking.wandb_service import WandbService, is_disabled

BOUNDS = ("low", "high")
SERVICES: dict[str, Callable[[Run, str, Description], Service]] = {
    "wandb": WandbService,
    "mlflow": MlflowService,
}


class Session:
    """The services of a run.

    Args:
        run: whose `history.csv` is logged.
        services: opened.
    """

    def __init__(self, run: Run, services: list[Guarded]) -> None:
        self.run, self.services = run, services

    def log_epochs(self) -> None:
        """Log the epochs of `history.csv` that a service does not have."""
        if self.services:
            rows = history_rows(self.run)
            for service in self.services:
                service.attempt(partial(_log_missing, rows))

    def log_results(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Log the numbers of a report, such as `test/macro_auc`."""
        values = {f"{name}/{key}": value for key, value in _numbers(metrics).items()}
        for service in self.services:
            service.attempt(lambda opened: opened.log_results(values))

    def close(self, ending: Ending | None) -> None:
        """Close the services."""
        for service in self.services:
            service.close(ending)


@contextlib.contextmanager
def tracked_training(run: Run, config: LoggingConfig) -> Iterator[Session]:
    """Open the services of a run that trains in the block; log what is new after it.

    Args:
        run: the run folder, with its configuration.
        config: which services.

    Raises:
        RequestError: a service refuses its project, or has no login.
    """
    ending: Ending = "failed"
    session = _opened(run, config, trains=True)
    try:
        yield session
        ending = "finished"
    except Stopped:
        ending = "stopped"
        raise
    finally:
        session.log_epochs()
        session.close(ending)


def log_report(run: Run, config: LoggingConfig, folder: Path) -> None:
    """Log the metrics.json of a report on a run, as more of the same run in each service.

    What fails is a warning, since the report is complete.

    Args:
        run: the run folder.
        config: which services.
        folder: of the report; its name is part of the metrics' names.
    """
    session = _opened(run, config, trains=False)
    session.log_epochs()
    session.log_results(folder.name, read_json(folder / "metrics.json"))
    session.close(None)


def history_rows(run: Run) -> list[dict[str, float]]:
    """Return the rows of `history.csv`, without the values that an epoch does not have."""
    if not run.history.is_file():
        return []
    with run.history.open(newline="") as file:
        rows = [
            {key: float(text or "nan") for key, text in row.items()} for row in csv.DictReader(file)
        ]
    return [{key: value for key, value in row.items() if not math.isnan(value)} for row in rows]


def _opened(run: Run, config: LoggingConfig, trains: bool) -> Session:
    chosen = {name: getattr(config, name) for name in SERVICES}
    if chosen["wandb"] is not None and is_disabled():
        print_lines("logging.wandb: off, by WANDB_MODE=disabled")
        chosen["wandb"] = None
    if not any(chosen.values()):
        return Session(run, [])
    described = _description(run, trains)
    return Session(
        run,
        [
            Guarded(name, partial(SERVICES[name], run, target, described), refuses=trains)
            for name, target in chosen.items()
            if target is not None
        ],
    )


def _description(run: Run, trains: bool) -> Description:
    facts = {key: value for key, value in run.facts().items() if key != "finished"}
    facts["run_folder"] = str(run.folder.resolve())
    return Description(run.folder.name, to_plain(run.load_config()), facts, trains)


def _log_missing(rows: list[dict[str, float]], service: Service) -> None:
    logged = service.epochs()
    for row in rows:
        epoch = int(row["epoch"])
        if epoch >= logged:
            service.log(epoch, {key: value for key, value in row.items() if key != "epoch"})


def _numbers(values: Any, name: str = "") -> dict[str, float]:
    """Return the numbers in a report, those of an interval as low and high; no other lists."""
    if isinstance(values, bool) or values is None or isinstance(values, str):
        return {}
    if isinstance(values, list | tuple) and len(values) == len(BOUNDS):
        values = dict(zip(BOUNDS, values, strict=True))
    if isinstance(values, Mapping):
        parts = [_numbers(value, f"{name}/{key}".lstrip("/")) for key, value in values.items()]
        return {key: value for part in parts for key, value in part.items()}
    if isinstance(values, int | float) and math.isfinite(values):
        return {name: float(values)}
    return {}
