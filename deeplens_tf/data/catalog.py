"""A catalogue: a table that says which images there are, and what each one is.

It replaces class folders. Its column `file` names an image by its path relative to the data folder;
the columns in `ROLES` are what `groups.csv`, `objects.csv` and class folders say elsewhere, and
every other column of numbers is kept with the images.
"""

import os
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deeplens_tf.data.catalog_tables import Table, open_table
from deeplens_tf.data.manifest import SPLITS, CatalogFacts
from deeplens_tf.data.relations import Relation, require_objects_usable
from deeplens_tf.errors import DataError, RequestError

ROLES = ("file", "row", "id", "label", "group", "object", "split", "ra", "dec")
PLACES = ("id", "ra", "dec")  # kept with an image as they are, and written with its prediction
MAX_VALUE_CHARACTERS = 200  # characters of a class's name, or of what is kept with an image
NO_NUMBER = frozenset({"", "nan", "na", "n/a", "null", "none", "--"})  # in lower case
MAX_ROW_DIGITS = 10
SHOWN_FILES = 3  # of those that are not there, in the line that counts them

_SEPARATOR = "\n"  # between the values that are kept of an image; none of them contains it


@dataclass(frozen=True)
class CatalogRequest:
    """The table that was asked for, and how its columns are called.

    Attributes:
        path: of the table; None for the `labels.csv` of the data folder, if there is one.
        columns: name of the column for some of the `ROLES`; None for one that is not read.

    Raises:
        RequestError: a name that is none of the `ROLES`.
    """

    path: Path | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls, path: str | Path | None, columns: Mapping[str, str | None] | None
    ) -> "CatalogRequest":
        """Return the request of a caller's arguments, each of which may be None."""
        return cls(None if path is None else Path(path), dict(columns or {}))

    def __post_init__(self) -> None:
        for role in self.columns:
            if role not in ROLES:
                raise RequestError(
                    f"data.catalog_columns: {role} is none of {', '.join(ROLES)}; the columns of "
                    "numbers keep their names"
                )


@dataclass(frozen=True)
class Catalog:
    """What a table says of the images that lie in a data folder.

    Attributes:
        path: of the table.
        roles: the name of the column for each of the `ROLES` that the table has.
        labels: name of the class of each image, by the image's name; "" without one.
        splits: the split that the table gives an image, by its name; other images are absent.
        groups: of the images; None without such a column.
        objects: of the images; None without such a column.
        kept: names of the columns that are kept with the images, `PLACES` first.
        units: of the kept columns that have one.
        passed_over: names of the columns that are not read.
        missing: number of rows whose file is not there.
        first_missing: the files of the first of them.
        rows: for an image of a stack, named `<file>#<row>`, its row from 0.
    """

    path: Path
    roles: Mapping[str, str]
    labels: Mapping[str, str]
    splits: Mapping[str, str]
    groups: Relation | None
    objects: Relation | None
    kept: tuple[str, ...]
    units: Mapping[str, str]
    passed_over: tuple[str, ...]
    missing: int
    first_missing: tuple[str, ...]
    rows: Mapping[str, int]
    _texts: Mapping[str, str]
    _read: tuple[str, ...]

    @property
    def names_validation(self) -> bool:
        """Whether the table chooses the validation images; all others are training images then."""
        return "validation" in self.splits.values()

    def file_of(self, name: str) -> str:
        """Return the file of an image, without its row."""
        return name.rpartition("#")[0] if name in self.rows else name

    def facts(self, sha256: Mapping[str, str] | None = None) -> CatalogFacts:
        """Return what a manifest says of the table.

        Args:
            sha256: of the table of the kept columns of each split, by its name.
        """
        return CatalogFacts(
            name=self.path.name,
            roles=tuple(self.roles),
            units={name: self.units.get(name, "") for name in self.kept},
            missing=self.missing,
            first_missing=self.first_missing,
            passed_over=self.passed_over,
            sha256=dict(sha256 or {}),
        )

    def texts(self, name: str, columns: Sequence[str]) -> tuple[str, ...]:
        """Return what the table has for an image in some of the kept columns, "" for nothing."""
        found = dict(zip(self._read, self._texts.get(name, "").split(_SEPARATOR), strict=False))
        return tuple(found.get(column, "") if column in self.kept else "" for column in columns)


def read_catalog(
    request: CatalogRequest, path: Path, root: Path, listed: Collection[str]
) -> Catalog:
    """Read a table of images, row by row; only rows of files that are there take memory.

    Args:
        request: how the columns are called.
        path: of the table.
        root: the data folder, to which the files are relative.
        listed: names of the images that are known to lie in it.

    Raises:
        RequestError: no such table, or no column of the name that was asked for.
        DataError: the table is damaged, names a file twice, a file that leads out of the data
            folder or an unknown split, or names no file of the data folder.
    """
    table = open_table(path)
    reader = _Reader(path, root, set(listed), table, _roles(path, table.columns, request))
    for number, row in enumerate(table.rows, 1):
        reader.add(number, row)
    return reader.catalog()


def is_number(text: str) -> bool:
    """Return whether a value of a column of numbers is one, or says that there is none."""
    try:
        float(text)
    except ValueError:
        return text.lower() in NO_NUMBER
    return "_" not in text and len(text) <= MAX_VALUE_CHARACTERS


def _roles(path: Path, columns: Sequence[str], request: CatalogRequest) -> dict[str, str]:
    """Return the name of the column for each role that the table has."""
    names = {role: request.columns.get(role, role) for role in ROLES}
    for role, name in request.columns.items():
        if name is not None and name not in columns:
            raise RequestError(
                f"data.catalog_columns.{role}: {path} has no column {name!r}, only "
                f"{', '.join(columns)}"
            )
    roles = {role: name for role, name in names.items() if name in columns and name}
    if "file" not in roles:
        raise DataError(
            f"{path}: no column file; its columns are {', '.join(columns)}: name the one with "
            "the paths by data.catalog_columns={file: NAME}"
        )
    return roles


class _Reader:
    """Collects the rows of a table whose files are there."""

    def __init__(
        self, path: Path, root: Path, listed: set[str], table: Table, roles: Mapping[str, str]
    ) -> None:
        self.path, self.root, self.listed = path, root, listed
        self.units, self.roles = table.units, roles
        self.at = {role: table.columns.index(name) for role, name in roles.items()}
        taken = set(self.at.values())
        others = {name: i for i, name in enumerate(table.columns) if i not in taken and name}
        self.places = {role: self.at[role] for role in PLACES if role in self.at}
        self.unread = [name for name in others if name in PLACES]
        self.numbers = {name: i for name, i in others.items() if name not in PLACES}
        self.read = (*self.places, *self.numbers)
        self.labels: dict[str, str] = {}
        self.known: dict[str, dict[str, str]] = {"split": {}, "group": {}, "object": {}}
        self.texts: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.words: dict[str, str] = {}  # one text in memory for all rows with the same label
        self.missing = 0
        self.first_missing: list[str] = []

    def add(self, number: int, row: Sequence[str]) -> None:
        name = self._name(number, row[self.at["file"]])
        if not name or (name not in self.listed and not os.path.lexists(f"{self.root}/{name}")):
            self.missing += 1
            shown = name[:MAX_VALUE_CHARACTERS]
            if len(self.first_missing) < SHOWN_FILES and shown not in self.first_missing:
                self.first_missing.append(shown)
            return
        label, name = self._label(number, row), self._with_row(number, name, row)
        if name in self.labels:
            raise DataError(self._twice(number, name, label))
        self.labels[name] = label
        for role, values in self.known.items():
            if role in self.at and (value := row[self.at[role]]):
                values[name] = self._split(number, value) if role == "split" else value
        if self.read:
            self.texts[name] = self._kept(number, row)

    def catalog(self) -> Catalog:
        if not self.labels:
            example = min(self.listed, default="x.npy")
            raise DataError(
                f"{self.path}: no row names a file of {self.root}; column {self.roles['file']} "
                f"needs paths relative to it, such as {example}"
            )
        kept = (*self.places, *self.numbers)
        names = {name: self.roles.get(name, name) for name in kept}
        return Catalog(
            path=self.path,
            roles=self.roles,
            labels=self.labels,
            splits=self.known["split"],
            groups=self._relation("group"),
            objects=self._objects(),
            kept=kept,
            units={name: self.units[own] for name, own in names.items() if own in self.units},
            passed_over=tuple(self.unread),
            missing=self.missing,
            first_missing=tuple(self.first_missing),
            rows=self.rows,
            _texts=self.texts,
            _read=self.read,
        )

    def _name(self, number: int, file: str) -> str:
        """Return the name of a row's file, which must lie in the data folder."""
        if "\0" in file or file.startswith("/") or ".." in file.split("/"):
            raise DataError(
                f"{self.path}: row {number}: file {file!r:.80} leads out of the data folder; paths "
                f"are relative to {self.root}"
            )
        return posixpath.normpath(file) if file else ""

    def _with_row(self, number: int, file: str, row: Sequence[str]) -> str:
        """Return the name of the image, with its row in a stack if the table says one."""
        text = row[self.at["row"]] if "row" in self.at else ""
        if not text:
            return file
        if not (text.isascii() and text.isdecimal() and len(text) < MAX_ROW_DIGITS):
            raise DataError(
                f"{self.path}: row {number}: {self.roles['row']} {text!r:.40} is no whole number "
                "from 0, the place of an image in its file; if the column is none of a stack, set "
                "data.catalog_columns={row: null}"
            )
        name = f"{file}#{int(text)}"
        self.rows[name] = int(text)
        return name

    def _label(self, number: int, row: Sequence[str]) -> str:
        label = row[self.at["label"]] if "label" in self.at else ""
        self._require_text(number, "label", label)
        return self.words.setdefault(label, label)

    def _twice(self, number: int, name: str, label: str) -> str:
        where = f"{self.path}: row {number}: {name!r}"
        if label == self.labels[name]:
            return f"{where} is listed twice"
        return f"{where} has the labels {self.labels[name]!r} and {label!r}"

    def _split(self, number: int, split: str) -> str:
        if split not in SPLITS:
            raise DataError(
                f"{self.path}: row {number}: split {split!r:.40} is none of {', '.join(SPLITS)}"
            )
        return self.words.setdefault(split, split)

    def _kept(self, number: int, row: Sequence[str]) -> str:
        """Return the values that are kept; a column with another text than numbers is dropped."""
        for place, i in self.places.items():
            self._require_text(number, place, row[i])
        for name in [name for name, i in self.numbers.items() if not is_number(row[i])]:
            del self.numbers[name]
            self.unread.append(name)
        own = {**self.places, **self.numbers}
        return _SEPARATOR.join([row[own[name]] if name in own else "" for name in self.read])

    def _require_text(self, number: int, column: str, text: str) -> None:
        if len(text) > MAX_VALUE_CHARACTERS or not text.isprintable():
            raise DataError(
                f"{self.path}: row {number}: {column} {text!r:.60}: at most "
                f"{MAX_VALUE_CHARACTERS} characters, all of them printable"
            )

    def _relation(self, role: str) -> Relation | None:
        return Relation(self.known[role]) if role in self.at else None

    def _objects(self) -> Relation | None:
        relation = self._relation("object")
        if relation is not None:
            require_objects_usable(self.path, relation.of_image, self.labels.__getitem__)
        return relation
