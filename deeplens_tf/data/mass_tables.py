"""Axion masses: the tables next to the images, and the check of a mass."""

import csv
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deeplens_tf.errors import DataError, UnusableFile

MAX_TABLE_BYTES = 64 << 20
MAX_ROW_CHARACTERS = 1 << 16

_TABLE_NAME = re.compile(r"masses(-\d+-of-\d+)?\.csv")


def mass_files(folder: Path) -> list[Path]:
    """Return the tables of a folder of images: `masses.csv`, `masses-<i>-of-<n>.csv`."""
    return sorted(path for path in folder.glob("masses*.csv") if _TABLE_NAME.fullmatch(path.name))


def read_masses(folder: Path) -> dict[str, str] | None:
    """Read a folder's tables: the columns file and mass_ev; others are ignored.

    Returns:
        The unparsed mass of each file that exists; None if there is no table.

    Raises:
        DataError: a table cannot be read, or a file has two rows.
    """
    tables = mass_files(folder)
    # Keep only masses of existing files, so memory does not grow with the table.
    present = _names_in(folder) if tables else set()
    masses: dict[str, str] = {}
    for table in tables:
        for name, mass in _read_table(table, present).items():
            if name in masses:
                raise DataError(f"{table}: {name!r} is also listed in another table")
            masses[name] = mass
    return masses if tables else None


def resolve_mass(
    name: str, file_mass_ev: float | None, table: dict[str, str] | None, required: bool = False
) -> float:
    """Return an image's mass in eV, NaN if neither the file nor a table contains one.

    Args:
        name: the file's name in the table.
        file_mass_ev: the mass that the file itself contains.
        table: the masses of the file's folder.
        required: whether the file must have a mass, because others of its folder do.

    Raises:
        UnusableFile: there is no mass although the folder has a table or `required` is true, a
            mass is not a positive number, or the file and the table disagree.
    """
    if file_mass_ev is not None:
        check_mass(file_mass_ev)
    elif table is None and required:
        raise UnusableFile("no mass, although other files of its class have one")
    if table is None:
        return math.nan if file_mass_ev is None else file_mass_ev
    mass_ev = _parse_mass(table.get(name, ""))
    if file_mass_ev is not None and not math.isclose(mass_ev, file_mass_ev, rel_tol=1e-6):
        raise UnusableFile(f"mass {file_mass_ev:g} eV in the file, {mass_ev:g} eV in masses.csv")
    return mass_ev


def check_mass(mass_ev: float) -> None:
    """Refuse a mass that has no logarithm.

    Raises:
        UnusableFile: not finite or not positive.
    """
    if not math.isfinite(mass_ev):
        raise UnusableFile(f"mass {mass_ev:g} is not finite")
    if mass_ev <= 0:
        raise UnusableFile(f"mass {mass_ev:g} is not positive")


def _parse_mass(text: str) -> float:
    if not text.strip():
        raise UnusableFile("no mass in masses.csv")
    try:
        mass_ev = float(text)
    except ValueError:
        raise UnusableFile(f"mass {text[:40]!r} in masses.csv is not a number") from None
    check_mass(mass_ev)
    return mass_ev


def _read_table(path: Path, present: set[str]) -> dict[str, str]:
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise DataError(f"{path}: larger than 64 MB, the maximum for a table of masses")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _masses(_rows(stream, path), path, present)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV table: {error}") from error


def _rows(stream: TextIO, path: Path) -> Iterator[list[str]]:
    """Yield the rows of a table. Each is one line, and lines have a maximum length."""
    while line := stream.readline(MAX_ROW_CHARACTERS):
        if len(line) == MAX_ROW_CHARACTERS:
            raise DataError(
                f"{path}: not a CSV table: a line of {MAX_ROW_CHARACTERS} characters or more"
            )
        yield next(csv.reader([line], skipinitialspace=True, strict=True), [])


def _masses(rows: Iterator[list[str]], path: Path, present: set[str]) -> dict[str, str]:
    columns = _columns(next(rows, []), path)
    masses: dict[str, str] = {}
    for row in rows:
        name, mass = (row[column] if column < len(row) else "" for column in columns)
        if name in masses:
            raise DataError(f"{path}: {name!r} is listed twice")
        if name in present:
            masses[name] = mass
    return masses


def _columns(header: list[str], path: Path) -> tuple[int, int]:
    missing = {"file", "mass_ev"} - set(header)
    if missing:
        raise DataError(
            f"{path}: no column {' and '.join(sorted(missing))}; a table of masses needs the "
            "columns file and mass_ev"
        )
    return header.index("file"), header.index("mass_ev")


def _names_in(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}
