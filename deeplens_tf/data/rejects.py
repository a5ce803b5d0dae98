"""The files that a preparation leaves out: their list, and the maximum number of unusable ones."""

import csv
import sys
from collections import Counter
from pathlib import Path

from deeplens_tf.data.manifest import SPLITS, Manifest
from deeplens_tf.errors import DataError
from deeplens_tf.terminal import counted, print_lines

REJECTED_FILE = "rejected.csv"
MAX_REJECTED_FILES = 3
MAX_REJECTED_FRACTION = 0.05
WORDS = {  # for the kinds in `LEFT_OUT`, apart from duplicates
    "contradiction": "in two classes or with two masses",
    "no signal": "without signal",
    "group": "of a group in training or validation",
    "object": "of an object in training or validation",
    "class": "of a class that training lacks",
    "no row": "without a row in the catalogue",
    "no label": "without a label in the catalogue",
}


class RejectedFiles:
    """The files that a preparation leaves out, each with its reason.

    Unusable files are rejected. Files that could be used but for other files, and images without
    signal, are left out with a count of their own: any number of them is fine.

    Args:
        total: number of files in the source folders.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.clear()

    def __len__(self) -> int:
        return len(self.reasons)

    def clear(self) -> None:
        """Forget all files, which are read again."""
        self.reasons: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.kinds: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.has_left_out_tests = False

    def add(self, name: str, reason: str) -> None:
        """Add an unusable file."""
        self.reasons[name] = reason

    def leave_out(self, name: str, kind: str, reason: str, split: str) -> None:
        """Add a file that is left out of a split for one of the reasons in `LEFT_OUT`."""
        self.left_out[name] = reason
        self.kinds[kind] += 1
        self.has_left_out_tests |= split == "test"
        if kind == "duplicate":
            self.duplicates[split] += 1

    def check(self, strict: bool) -> None:
        """Stop the preparation if too many files are rejected.

        Raises:
            DataError: any file if strict; else more than 3 files and more than 5 % of all.
        """
        if len(self) > MAX_REJECTED_FILES and len(self) > MAX_REJECTED_FRACTION * self.total:
            limit = f"{MAX_REJECTED_FILES} files or {100 * MAX_REJECTED_FRACTION:.0f} % of all"
            raise DataError(f"{self.rejected_text()}; at most {limit} may be rejected")
        if strict and self.reasons:
            raise DataError(f"{self.rejected_text()}; --strict forbids rejected files")
        if strict and self.left_out:
            raise DataError(f"{self.left_out_text()}; --strict forbids files that are left out")

    def save(self, path: Path) -> Path:
        """Write the list, sorted by file name; return its path."""
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(["file", "reason"])
            rows.writerows(sorted((self.reasons | self.left_out).items()))
        return path

    def report(self, listed: Path) -> None:
        """Print one line to stderr for the files that were rejected, one for those left out.

        Args:
            listed: the file in which they are.
        """
        for text in self.texts():
            print_lines(f"{text}; all are listed in {listed}", stream=sys.stderr)

    def left_out_text(self) -> str:
        """Return the number of files left out by reason, and the first of them."""
        name, reason = min(self.left_out.items())
        counts = left_out_counts(dict(self.kinds), dict(self.duplicates))
        return (
            f"{len(self.left_out)} of {self.total} files left out ({counts}), the first: "
            f"{name}: {reason}"
        )

    def rejected_text(self) -> str:
        """Return the number of unusable files, and the first of them."""
        if not self.reasons:
            return f"0 of {self.total} files rejected"
        name, reason = min(self.reasons.items())
        return f"{len(self)} of {self.total} files rejected, the first: {name}: {reason}"

    def __str__(self) -> str:
        return "; ".join(self.texts()) or self.rejected_text()

    def texts(self) -> list[str]:
        """Return a text for the unusable files and one for those left out, if there are any."""
        unusable = [self.rejected_text()] if self.reasons else []
        return unusable + ([self.left_out_text()] if self.left_out else [])


def left_out_counts(left_out: dict[str, int], duplicates: dict[str, int]) -> str:
    """Return in words how many files were left out, such as "3 duplicates in test, 1 ..."."""
    pairs = ((split, duplicates.get(split, 0)) for split in SPLITS)
    texts = [f"{counted(count, 'duplicate')} in {name}" for name, count in pairs if count]
    return ", ".join(
        texts + [f"{left_out[k]} {text}" for k, text in WORDS.items() if left_out.get(k)]
    )


def check_strict(folder: Path, manifest: Manifest, strict: bool) -> None:
    """Check an earlier preparation against `strict`.

    Raises:
        DataError: strict, and the preparation left files out.
    """
    counts = {"rejected": manifest.rejected, "left out": sum(manifest.left_out.values())}
    for what, count in counts.items():
        if strict and count:
            raise DataError(
                f"{folder}: its preparation {what} {counted(count, 'file')} "
                f"(see {folder / REJECTED_FILE}); --strict forbids that"
            )
