"""The files that a preparation leaves out: their list, and the maximum number of them."""

import csv
import sys
from pathlib import Path

from deeplens_tf.data.manifest import Manifest
from deeplens_tf.errors import DataError
from deeplens_tf.terminal import print_lines

REJECTED_FILE = "rejected.csv"
MAX_REJECTED_FILES = 3
MAX_REJECTED_FRACTION = 0.05


class RejectedFiles:
    """The files that a preparation leaves out, each with its reason.

    Args:
        total: number of files in the source folders.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, name: str, reason: str) -> None:
        """Add one file."""
        self.reasons[name] = reason

    def check(self, strict: bool) -> None:
        """Stop the preparation if too many files are rejected.

        Raises:
            DataError: any file if strict; else more than 3 files and more than 5 % of all.
        """
        if len(self) > MAX_REJECTED_FILES and len(self) > MAX_REJECTED_FRACTION * self.total:
            limit = f"{MAX_REJECTED_FILES} files or {100 * MAX_REJECTED_FRACTION:.0f} % of all"
            raise DataError(f"{self}; at most {limit} may be rejected")
        if strict and self.reasons:
            raise DataError(f"{self}; --strict forbids rejected files")

    def save(self, path: Path) -> Path:
        """Write the list, sorted by file name; return its path."""
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(["file", "reason"])
            rows.writerows(sorted(self.reasons.items()))
        return path

    def report(self, folder: Path) -> None:
        """Print one line to stderr if any file was rejected."""
        if self.reasons:
            print_lines(f"{self}; all are listed in {folder / REJECTED_FILE}", stream=sys.stderr)

    def __str__(self) -> str:
        if not self.reasons:
            return f"0 of {self.total} files rejected"
        name, reason = min(self.reasons.items())
        return f"{len(self)} of {self.total} files rejected, the first: {name}: {reason}"


def check_strict(folder: Path, manifest: Manifest, strict: bool) -> None:
    """Check an earlier preparation against `strict`.

    Raises:
        DataError: strict, and the preparation left files out.
    """
    if strict and manifest.rejected:
        raise DataError(
            f"{folder}: {manifest.rejected} files were rejected when it was prepared "
            f"(see {folder / REJECTED_FILE}); --strict forbids rejected files"
        )
