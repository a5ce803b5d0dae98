"""What a service is told of a run, and that its failure does not end a training."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from deeplens_tf.config import LoggingConfig
from deeplens_tf.errors import RequestError
from deeplens_tf.terminal import print_lines, shortened

Ending = Literal["finished", "stopped", "failed"]
Values = Mapping[str, float]
SERVICE_PACKAGES = ("wandb", "mlflow")  # each is the name of a key, of an extra and of a package


@dataclass(frozen=True)
class Description:
    """What is said of a run once.

    Attributes:
        name: of the run.
        config: all keys with their values, nested.
        facts: versions, devices, data, and the run's folder; nested.
        trains: whether the command trains the run, or reports on it.
    """

    name: str
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    trains: bool


class Service(Protocol):
    """One run in one service."""

    def epochs(self) -> int:
        """Return the number of epochs that the service has."""

    def log(self, epoch: int, values: Values) -> None:
        """Add the values of an epoch, counted from 0."""

    def log_results(self, values: Values) -> None:
        """Set values of the whole run, such as `test/macro_auc`; earlier ones are replaced."""

    def close(self, ending: Ending | None) -> None:
        """Say how the training has ended; None for a command that trains nothing."""


class Guarded:
    """A service whose first failure is reported, after which it is left alone.

    Args:
        name: of the service, for the message.
        open_service: opens the run in the service.
        refuses: whether a `RequestError` of `open_service` is raised.

    Raises:
        RequestError: for what the user must change.
    """

    def __init__(
        self, name: str, open_service: Callable[[], Service], refuses: bool = True
    ) -> None:
        self.name, self.refuses = name, refuses
        self._service: Service | None = None
        self._has_failed = False
        self._guard(lambda: setattr(self, "_service", open_service()))

    def attempt(self, act: Callable[[Service], None]) -> None:
        """Do something with the service, unless it has failed before."""
        service = self._service
        if service is not None and not self._has_failed:
            self._guard(lambda: act(service))

    def close(self, ending: Ending | None) -> None:
        """Close the run in the service, even after a failure."""
        service = self._service
        if service is not None:
            self._guard(lambda: service.close(ending))

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a service's package raises
            if isinstance(error, RequestError) and self.refuses:
                raise
            if not self._has_failed:
                self._warn(error)
            self._has_failed = True

    def _warn(self, error: Exception) -> None:
        reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()))
        print_lines(
            f"warning: logging.{self.name}: {reason}; this command goes on without it, and the "
            "next one of this run logs what is missing",
            stream=sys.stderr,
        )


def require_packages(config: LoggingConfig) -> None:
    """Refuse a service whose package is not installed, before any work.

    Raises:
        RequestError: with what to install.
    """
    for name in SERVICE_PACKAGES:
        if getattr(config, name) is not None and not _is_installed(name):
            raise RequestError(f"logging.{name}: needs {name}: pip install 'deeplens_tf[{name}]'")


def _is_installed(package: str) -> bool:
    """Return whether a package is installed; a folder of its name is no package of Python."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None
