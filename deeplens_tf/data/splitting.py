"""The choice of the images for training and for validation."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from deeplens_tf.data.folders import SourceFile
from deeplens_tf.data.formats.image_formats import rank_name
from deeplens_tf.errors import DataError


class SplitAssigner:
    """Assigns the usable images of a source folder to training or validation, one by one.

    The first usable image of a class goes to training, the next ones to validation until it has
    its number of images, the others to training. A class with two usable images is therefore in
    both splits, however many of its files are rejected.

    A group goes where its first usable image goes: to training if one of its classes has none
    there, else to validation if that brings its numbers of images closer, or if it is the last
    group of a class of which validation would have no image.

    Args:
        files: all files of the folder.
        validation_fraction: fraction of each class for validation.
        groups: the group of a file, by its name; other files are groups of their own.
    """

    def __init__(
        self,
        files: Iterable[SourceFile],
        validation_fraction: float,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        files, self._groups = list(files), groups or {}
        self.split_of_group: dict[str, str] = {}
        self._sizes: defaultdict[str, Counter[int]] = defaultdict(Counter)  # of each group
        for file in files:
            if group := self._groups.get(file.name):
                self._sizes[group][file.label] += 1
        totals = Counter(file.label for file in files)
        self._missing = {  # images that validation still lacks, by class
            label: validation_count(total, validation_fraction) for label, total in totals.items()
        }
        self._targets = dict(self._missing)
        self._undecided = Counter(f.label for f in files if f.name not in self._groups)
        for sizes in self._sizes.values():
            self._undecided.update(sizes.keys())
        self._in_training: set[int] = set()

    def next_split(self, file: SourceFile) -> str:
        """Return "train" or "validation": where the next usable image would go."""
        group = self._groups.get(file.name)
        if group in self.split_of_group:
            return self.split_of_group[group]
        sizes = self._sizes_with(file)
        if not set(sizes) <= self._in_training:
            return "train"
        gain = sum(
            abs(self._missing[label]) - abs(self._missing[label] - size)
            for label, size in sizes.items()
        )
        return "validation" if gain > 0 or any(map(self._is_last_chance, sizes)) else "train"

    def assign(self, file: SourceFile) -> str:
        """Return the split of the next usable image, which now belongs to it."""
        split, group = self.next_split(file), self._groups.get(file.name)
        if group in self.split_of_group:
            return split
        sizes = self._sizes_with(file)
        self._undecided.subtract(sizes.keys())
        if split == "train":
            self._in_training |= set(sizes)
        else:
            for label, size in sizes.items():
                self._missing[label] -= size
        if group is not None:
            self.split_of_group[group] = split
        return split

    def _sizes_with(self, file: SourceFile) -> Mapping[int, int]:
        group = self._groups.get(file.name)
        return {file.label: 1} if group is None else self._sizes[group]

    def _is_last_chance(self, label: int) -> bool:
        target = self._targets[label]
        return self._undecided[label] == 1 and 0 < target == self._missing[label]


class NamedSplits:
    """Assigns images to training or validation as a table says; the others are for training.

    Args:
        splits: the split of an image, by its name.
        groups: the group of an image, by its name.
        table: what names the splits, for messages.

    Raises:
        DataError: a group is in training and in validation.
    """

    def __init__(self, splits: Mapping[str, str], groups: Mapping[str, str], table: str) -> None:
        self._splits = splits
        self.split_of_group: dict[str, str] = {}
        for name, group in groups.items():
            split = splits.get(name, "train")
            if self.split_of_group.setdefault(group, split) != split:
                raise DataError(
                    f"{table}: {group} is in training and in validation, with {name!r} in {split}"
                )

    def next_split(self, file: SourceFile) -> str:
        """Return "train" or "validation"."""
        return self._splits.get(file.name, "train")

    assign = next_split


def validation_count(size: int, fraction: float) -> int:
    """Return how many of a class's images go to validation: at least one of two or more."""
    if size < 2 or not fraction:
        return 0
    return min(size - 1, max(1, round(size * fraction)))


def shuffled(
    files: Iterable[SourceFile], seed: int, objects: Mapping[str, str] | None = None
) -> list[SourceFile]:
    """Return files in an order that depends only on each file's name, its object and the seed.

    Of a name's suffix only what `rank_name` keeps matters. The files of an object follow each
    other.

    Args:
        files: in any order.
        seed: of the preparation.
        objects: the object of a file, by its name; other files are objects of their own.
    """
    objects = objects or {}

    def rank(file: SourceFile) -> tuple[bytes, bytes]:
        name = rank_name(file.name).encode("utf-8", "surrogateescape")
        of_file = hashlib.sha256(b"%d:%s" % (seed, name)).digest()
        if file.name not in objects:
            return of_file, of_file
        return hashlib.sha256(b"%d;%s" % (seed, objects[file.name].encode())).digest(), of_file

    return sorted(files, key=rank)
