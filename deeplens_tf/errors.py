"""The errors that are the user's to mend, each with the exit code it ends a stage with.

Everything else that escapes a stage is a fault of this package (exit code 1).
"""


class DeeplensError(Exception):
    """Base of the errors that a stage reports in one line: what, where, what would be right."""

    exit_code = 1


class RequestError(DeeplensError, ValueError):
    """The request is wrong: an option, a configuration key, a combination that cannot work."""

    exit_code = 2


class DataError(DeeplensError, ValueError):
    """The data cannot be used: nothing readable in it, or classes that do not fit together."""

    exit_code = 3


class ResourceError(DeeplensError, OSError):
    """The surroundings refuse: disk full, folder locked or read-only."""

    exit_code = 4


class Stopped(DeeplensError):
    """A signal asked a training to stop, and it did, after saving.

    Args:
        message: what was saved where.
        exit_code: 128 + the signal's number.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UnusableFile(ValueError):
    """One file cannot be used; the message is the reason that `rejected.csv` records."""
