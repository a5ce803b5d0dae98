"""The rows of a catalogue, read one by one; only those whose files are there take memory."""

import math
import os
import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from deeplens_tf.data.band_files import parts_of
from deeplens_tf.data.catalog import (
    MAX_VALUE_CHARACTERS,
    NO_NUMBER,
    OTHER_NAMES,
    PLACES,
    ROLES,
    SEPARATOR,
    Catalog,
    CatalogRequest,
)
from deeplens_tf.data.catalog_tables import Table, open_table
from deeplens_tf.data.manifest import SPLITS
from deeplens_tf.data.relations import Relation, require_objects_usable
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.preprocessing.units import arcsec_in

MAX_ROW_DIGITS = 10
WHOLE_FILES = Selection()
SHOWN_FILES = 3  # of those that are not there, in the line that counts them


def read_catalog(
    request: CatalogRequest,
    path: Path,
    root: Path,
    listed: Collection[str],
    selection: Selection = WHOLE_FILES,
) -> Catalog:
    """Read a table of images, row by row; only rows of files that are there take memory.

    Args:
        request: how the columns are called.
        path: of the table.
        root: the data folder, to which the files are relative.
        listed: names of the images that are known to lie in it.
        selection: whether each band is in a file of its own.

    Raises:
        RequestError: no such table, or no column of the name that was asked for.
        DataError: the table is damaged, names a file twice, a file that leads out of the data
            folder or an unknown split, or names no file of the data folder.
    """
    table = open_table(path)
    roles = _roles(path, table.columns, request)
    reader = _RowReader(path, root, set(listed), table, roles, selection)
    for number, row in enumerate(table.rows, 1):
        reader.add(number, row)
    return reader.catalog()


def first_pixel_scale(
    request: CatalogRequest, path: Path, root: Path, selection: Selection
) -> float | None:
    """Return the pixel scale in arcsec of the first row that has one and whose file is there.

    None if there is no such row. Arguments and errors are those of `read_catalog`.
    """
    table = open_table(path)
    roles = _roles(path, table.columns, request)
    reader = _RowReader(path, root, set(), table, roles, selection)
    for number, row in enumerate(table.rows if "pixel_scale" in reader.at else (), 1):
        scale = reader.pixel_scale(number, row)
        if scale and 0 < scale < math.inf and reader.name_of_file(number, row):
            return scale
    return None


def is_number(text: str) -> bool:
    """Return whether a value of a column of numbers is one, or says that there is none."""
    try:
        float(text)
    except ValueError:
        return text.lower() in NO_NUMBER
    return "_" not in text and len(text) <= MAX_VALUE_CHARACTERS


def _roles(path: Path, columns: Sequence[str], request: CatalogRequest) -> dict[str, str]:
    """Return the name of the column for each role that the table has."""
    names = {role: request.columns.get(role, OTHER_NAMES.get(role, role)) for role in ROLES}
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


class _RowReader:
    """Collects the rows of a table whose files are there."""

    def __init__(
        self,
        path: Path,
        root: Path,
        listed: set[str],
        table: Table,
        roles: Mapping[str, str],
        selection: Selection,
    ) -> None:
        self.path, self.root, self.listed, self.selection = path, root, listed, selection
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
        self.unit_arcsec = self._unit_arcsec()
        self.pixel_scales: dict[str, float] = {}
        self.words: dict[str, str] = {}  # one text in memory for all rows with the same label
        self.missing = 0
        self.first_missing: list[str] = []

    def add(self, number: int, row: Sequence[str]) -> None:
        name = self.name_of_file(number, row)
        if not name:
            self._add_missing(row[self.at["file"]])
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
        if (scale := self.pixel_scale(number, row)) is not None:
            self.pixel_scales[name] = scale

    def name_of_file(self, number: int, row: Sequence[str]) -> str:
        """Return the name of a row's file; "" if it is not there."""
        name = self._name(number, row[self.at["file"]])
        return name if name and (name in self.listed or self._is_there(name)) else ""

    def _is_there(self, name: str) -> bool:
        parts = parts_of(self.root, name, self.selection)
        return os.path.lexists(f"{self.root}/{name}") if parts is None else any(parts)

    def pixel_scale(self, number: int, row: Sequence[str]) -> float | None:
        """Return the pixel scale of a row in arcsec, None if it is unknown."""
        text = row[self.at["pixel_scale"]] if "pixel_scale" in self.at else ""
        if text.lower() in NO_NUMBER:
            return None
        if not is_number(text):
            raise DataError(
                f"{self.path}: row {number}: {self.roles['pixel_scale']} {text!r:.40} is no "
                "number; if the column is none of pixel scales, set "
                "data.catalog_columns={pixel_scale: null}"
            )
        scale = float(text) * self.unit_arcsec
        return None if math.isnan(scale) else scale

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
            pixel_scales=self.pixel_scales,
            _texts=self.texts,
            _read=self.read,
        )

    def _unit_arcsec(self) -> float:
        """Return how many arcsec the unit of the pixel scales has."""
        column = self.roles.get("pixel_scale", "")
        unit = self.units.get(column, "")
        if (found := arcsec_in(unit)) is None:
            raise DataError(
                f"{self.path}: the unit of {column} is {unit!r:.40}, and that of a pixel scale is "
                "an angle, such as arcsec, mas or deg; if the column is none of pixel scales, set "
                "data.catalog_columns={pixel_scale: null}"
            )
        return found

    def _add_missing(self, file: str) -> None:
        self.missing += 1
        shown = posixpath.normpath(file)[:MAX_VALUE_CHARACTERS] if file else ""
        if len(self.first_missing) < SHOWN_FILES and shown not in self.first_missing:
            self.first_missing.append(shown)

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
        if self.selection.band_files is not None:
            raise DataError(
                f"{self.path}: row {number}: {self.roles['row']} {text} of a stack, and "
                "data.band_files says that each band has a file: leave one out"
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
        return SEPARATOR.join([row[own[name]] if name in own else "" for name in self.read])

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
