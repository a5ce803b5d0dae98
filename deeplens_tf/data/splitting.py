"""Which images go to training and which to validation."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from deeplens_tf.data.folders import SourceFile


class SplitSorter:
    """Decides, image by image, which split of its source folder it belongs to.

    Args:
        files: all files of the folder.
        validation_fraction: share of each class for validation, at least one image of a class
            that has two.
    """

    def __init__(self, files: Iterable[SourceFile], validation_fraction: float) -> None:
        sizes = Counter(file.label for file in files)
        self.shares = {label: share(size, validation_fraction) for label, size in sizes.items()}
        self.seen: Counter[int] = Counter()

    def place(self, label: int) -> str:
        """Return "train" or "validation" for the next usable image of a class."""
        self.seen[label] += 1
        return "validation" if 1 < self.seen[label] <= 1 + self.shares[label] else "train"


def share(size: int, fraction: float) -> int:
    """Return how many of a class's images go to validation."""
    if size < 2 or not fraction:
        return 0
    return min(size - 1, max(1, round(size * fraction)))


def shuffled(files: Iterable[SourceFile], seed: int) -> list[SourceFile]:
    """Return files in an order that each one's name and the seed decide."""

    def rank(file: SourceFile) -> bytes:
        name = file.name.encode("utf-8", "surrogateescape")
        return hashlib.sha256(b"%d:%s" % (seed, name)).digest()

    return sorted(files, key=rank)
