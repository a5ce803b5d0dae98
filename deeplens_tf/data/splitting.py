"""The choice of the images for training and for validation."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from deeplens_tf.data.folders import SourceFile


class SplitAssigner:
    """Assigns the usable images of a source folder to training or validation, one by one.

    The first usable image of a class goes to training, the next ones to validation until it has
    its number of images, the others to training. A class with two usable images is therefore in
    both splits, however many of its files are rejected.

    Args:
        files: all files of the folder.
        validation_fraction: fraction of each class for validation.
    """

    def __init__(self, files: Iterable[SourceFile], validation_fraction: float) -> None:
        sizes = Counter(file.label for file in files)
        self.validation_counts = {
            label: validation_count(size, validation_fraction) for label, size in sizes.items()
        }
        self.assigned: Counter[int] = Counter()

    def assign(self, label: int) -> str:
        """Return "train" or "validation" for the next usable image of a class."""
        self.assigned[label] += 1
        is_validation = 1 < self.assigned[label] <= 1 + self.validation_counts[label]
        return "validation" if is_validation else "train"


def validation_count(size: int, fraction: float) -> int:
    """Return how many of a class's images go to validation: at least one of two or more."""
    if size < 2 or not fraction:
        return 0
    return min(size - 1, max(1, round(size * fraction)))


def shuffled(files: Iterable[SourceFile], seed: int) -> list[SourceFile]:
    """Return files in an order that depends only on each file's name and the seed."""

    def rank(file: SourceFile) -> bytes:
        name = file.name.encode("utf-8", "surrogateescape")
        return hashlib.sha256(b"%d:%s" % (seed, name)).digest()

    return sorted(files, key=rank)
