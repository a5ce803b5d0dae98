"""The files that are left out of a preparation: listing them, and when they are too many."""

import csv
import sys
from pathlib import Path

from deeplens_tf.data.manifest import Manifest
from deeplens_tf.errors import DataError
from deeplens_tf.terminal import print_lines

FILE = "rejected.csv"
MAX_FILES = 3
MAX_SHARE = 0.05


class Rejects:
    """The files that a preparation leaves out, each with its reason.

    Args:
        total: number of files that the preparation looks at.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, name: str, reason: str) -> None:
        """List one file."""
        self.reasons[name] = reason

    def judge(self, strict: bool) -> None:
        """End the preparation where too much is left out.

        Raises:
            DataError: any file if strict; else more than 3 files and more than 5 % of all.
        """
        too_many = len(self) > MAX_FILES and len(self) > MAX_SHARE * self.total
        if too_many or (strict and self.reasons):
            raise DataError(f"{self}, which {'is too many' if too_many else '--strict forbids'}")

    def save(self, path: Path) -> Path:
        """Write the list, sorted by file; return where."""
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(["file", "reason"])
            rows.writerows(sorted(self.reasons.items()))
        return path

    def report(self, folder: Path) -> None:
        """Say in one line on stderr what was left out, if anything was."""
        if self.reasons:
            print_lines(f"{self}; all are listed in {folder / FILE}", stream=sys.stderr)

    def __str__(self) -> str:
        if not self.reasons:
            return f"0 of {self.total} files rejected"
        name, reason = min(self.reasons.items())
        return f"{len(self)} of {self.total} files rejected, the first: {name}: {reason}"


def check_strict(folder: Path, manifest: Manifest, strict: bool) -> None:
    """Hold a preparation made earlier to `strict`.

    Raises:
        DataError: strict, and files were left out of it.
    """
    if strict and manifest.rejected:
        raise DataError(
            f"{folder}: {manifest.rejected} files were rejected when it was prepared "
            f"(see {folder / FILE}), which --strict forbids"
        )
