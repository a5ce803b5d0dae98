"""`groups.csv` and `objects.csv`: images that belong together.

A group, such as the turned copies of an image, is kept on one side of the split; nothing else
depends on it. An object is what its images show, such as several exposures of one lens: it is kept
on one side too, and pretraining can make the two views from two of its images.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deeplens_tf.data.csv_tables import read_columns
from deeplens_tf.errors import DataError

GROUPS_FILE = "groups.csv"
MAX_OBJECT_NAME = 200  # characters: the table of a prepared folder has a row for each image

_OBJECT_TABLE = re.compile(r"objects(-\d+-of-\d+)?\.csv")


@dataclass(frozen=True)
class Relation:
    """Which images of a folder belong together.

    Attributes:
        of_image: the group or object of each image that has one, by the image's name.
        unknown: number of rows that name no image of the folder.
    """

    of_image: Mapping[str, str] = field(default_factory=dict)
    unknown: int = 0

    def among(self, names: Iterable[str]) -> "Relation":
        """Return what holds of some of the images; the unknown rows are not counted again."""
        return Relation({name: self.of_image[name] for name in names if name in self.of_image})


def object_tables(root: Path) -> list[Path]:
    """Return the tables of a data folder: `objects.csv`, `objects-<i>-of-<n>.csv`."""
    return sorted(path for path in root.glob("objects*.csv") if is_object_table(path.name))


def is_object_table(name: str) -> bool:
    """Return whether a file is read as a table of objects, by its name."""
    return _OBJECT_TABLE.fullmatch(name) is not None


def read_groups(root: Path, names: Collection[str]) -> Relation:
    """Return the groups in a folder's `groups.csv`; none without such a table.

    The table has the columns file, the path relative to the folder, and group. A file without a
    row, or without a group in it, is a group of its own.

    Args:
        root: the folder.
        names: of its images, relative to it, with forward slashes.

    Raises:
        DataError: the table cannot be read, lists a file twice, or names no image of the folder.
    """
    path = root / GROUPS_FILE
    return _read([path] if os.path.lexists(path) else [], "group", root, names)


def read_objects(
    root: Path, names: Collection[str], class_of: Callable[[str], str] | None = None
) -> Relation:
    """Return the objects in a folder's `object_tables`; none without such a table.

    The tables have the columns file and object, and are otherwise as `groups.csv`.

    Args:
        root: the folder.
        names: of its images, relative to it, with forward slashes.
        class_of: name of an image -> its class; None where the folders are the classes.

    Raises:
        DataError: as `read_groups`; the images of an object are in two classes, or its name is
            longer than 200 characters or contains one that cannot be printed.
    """
    relation = _read(object_tables(root), "object", root, names)
    of_folders = class_of or (lambda name: name.rpartition("/")[0])
    require_objects_usable(root, relation.of_image, of_folders)
    return relation


def require_objects_usable(
    where: Path, of_image: Mapping[str, str], class_of: Callable[[str], str]
) -> None:
    """Refuse objects that cannot be kept.

    Args:
        where: what the message begins with.
        of_image: the object of each image, by the image's name.
        class_of: name of an image -> its class.

    Raises:
        DataError: the images of an object are in two classes, or its name is longer than 200
            characters or contains one that cannot be printed.
    """
    classes: dict[str, str] = {}
    for name, found in of_image.items():
        if len(found) > MAX_OBJECT_NAME or not found.isprintable():
            raise DataError(
                f"{where}: {name!r} has the object {found!r:.60}; the name of an object has at "
                f"most {MAX_OBJECT_NAME} characters, all of them printable"
            )
        own = class_of(name)
        if classes.setdefault(found, own) != own:
            raise DataError(
                f"{where}: object {found!r} has images in the classes {classes[found]} and "
                f"{own}; an object is of one class"
            )


def connected(labels: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return one label for all labels that images connect, directly or through others.

    Args:
        labels: of each image, in any number.

    Returns:
        For each label one that all labels connected with it share.
    """
    parents: dict[str, str] = {}

    def root_of(label: str) -> str:
        while (parent := parents.setdefault(label, label)) != label:
            parents[label] = parents[parent]  # halves the path for the next search
            label = parent
        return label

    for of_image in labels:
        for label in of_image:
            parents[root_of(label)] = root_of(of_image[0])
    return {label: root_of(label) for label in parents}


def _read(tables: Sequence[Path], column: str, root: Path, names: Collection[str]) -> Relation:
    known, found, unknown = set(names), dict[str, str](), 0
    for path in tables:
        for name, value in read_columns(path, ("file", column), f"{column}s"):
            if name in found:
                raise DataError(f"{path}: {name!r} is listed twice")
            if name in known:
                found[name] = value
            else:
                unknown += bool(name)
    if tables and known and not found:
        raise DataError(
            f"{tables[0]}: no row names an image; column file needs paths relative to {root}, "
            f"such as {min(known)}"
        )
    return Relation({name: value for name, value in found.items() if value}, unknown)
