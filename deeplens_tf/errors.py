"""The errors that a user can fix, each with the exit code of a stage that it ends.

Any other exception that leaves a stage is a bug of this package (exit code 1).
"""

import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # end a run with `Stopped`


class DeeplensError(Exception):
    """Base of the errors that a stage reports in one line: what, where, what would be right."""

    exit_code = 1


class RequestError(DeeplensError, ValueError):
    """The request is wrong: an option, a configuration key, a combination that cannot work."""

    exit_code = 2


class DataError(DeeplensError, ValueError):
    """The data cannot be used: nothing is readable, or the classes do not match."""

    exit_code = 3


class ResourceError(DeeplensError, OSError):
    """A resource is unavailable: the disk is full, the folder is locked or read-only."""

    exit_code = 4


class Stopped(DeeplensError):
    """A run was stopped by a signal, after it saved a checkpoint.

    Args:
        message: what was saved and where.
        exit_code: 128 + the signal's number.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UnusableFile(ValueError):
    """One file cannot be used; the message is the reason that `rejected.csv` records."""


class NoSignal(UnusableFile):
    """An image whose values are all equal. Preparing counts such images apart."""
