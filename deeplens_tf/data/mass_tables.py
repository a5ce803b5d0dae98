"""Axion masses: the tables next to the images, and the check of a mass."""

import math
import re
from collections.abc import Collection
from pathlib import Path

from deeplens_tf.data.csv_tables import read_columns
from deeplens_tf.errors import DataError, UnusableFile

MIN_MASS_EV, MAX_MASS_EV = 1e-40, 1e3
LARGE_MASS_EV = 1.0  # there is no such axion: a larger value is accepted, and a line says so

_TABLE_NAME = re.compile(r"masses(-\d+-of-\d+)?\.csv")


def mass_files(folder: Path) -> list[Path]:
    """Return the tables of a folder of images: `masses.csv`, `masses-<i>-of-<n>.csv`."""
    return sorted(path for path in folder.glob("masses*.csv") if is_mass_table(path.name))


def is_mass_table(name: str) -> bool:
    """Return whether a file is read as a table of masses, by its name."""
    return _TABLE_NAME.fullmatch(name) is not None


def read_masses(root: Path, names: Collection[str]) -> dict[str, dict[str, str]]:
    """Read the tables of a data folder and of its class folders: the columns file and mass_ev.

    A table lists its files relative to its own folder; other columns are ignored.

    Args:
        root: the data folder.
        names: of its images, relative to it, with forward slashes.

    Returns:
        By the name of the class folder, "" without classes: the unparsed mass of each image that a
        table lists, by its name in `names`. A class has no entry if no table is in its folder and
        the data folder's own lists none of its images.

    Raises:
        DataError: a table cannot be read, an image has two rows in tables of one folder or two
            masses, or the table of a folder of classes names no image.
    """
    known = set(names)  # rows of other files are not kept, so memory does not grow with the table
    folders = sorted({_folder_of(name) for name in known})
    tables = {folder: _read_tables(root, folder, known) for folder in folders}
    masses = {folder: table for folder, table in tables.items() if table is not None}
    common = None if "" in folders else _read_tables(root, "", known)
    if known and common == {}:
        raise DataError(
            f"{mass_files(root)[0]}: no row names an image; column file needs paths relative to "
            f"{root}, such as {min(known)}"
        )
    for name, mass in (common or {}).items():
        of_class = masses.setdefault(_folder_of(name), {})
        if not _agree(of_class.setdefault(name, mass), mass):
            raise DataError(
                f"{root}: {name!r} has mass {of_class[name]!r:.40} in the table of its class and "
                f"{mass!r:.40} in that of the data folder"
            )
    return masses


def resolve_mass(
    name: str, file_mass_ev: float | None, table: dict[str, str] | None, required: bool = False
) -> float:
    """Return an image's mass in eV, NaN if neither the file nor a table contains one.

    Args:
        name: the file's name in the table, see `read_masses`.
        file_mass_ev: the mass that the file itself contains.
        table: the masses of the file's folder; None if no table is about it.
        required: whether the file must have a mass, because others of its folder do.

    Raises:
        UnusableFile: there is no mass although the folder has a table or `required` is true, a
            mass is no number from 1e-40 to 1e3 eV, or the file and the table disagree.
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


def large_masses_text(folder: Path, masses_ev: Collection[float]) -> str:
    """Return the line about masses above 1 eV, which are accepted."""
    return (
        f"{folder}: masses from {min(masses_ev):g} to {max(masses_ev):g} eV: if these are "
        "logarithms, store 10**value"
    )


def check_mass(mass_ev: float) -> None:
    """Refuse a mass that is none in eV.

    Raises:
        UnusableFile: not finite, not positive, or not from 1e-40 to 1e3 eV.
    """
    if not math.isfinite(mass_ev):
        raise UnusableFile(f"mass {mass_ev:g} is not finite")
    if mass_ev < 0:
        raise UnusableFile(
            f"mass {mass_ev:g} is negative: if it is a logarithm, store the mass itself in eV, "
            "10**value"
        )
    if not MIN_MASS_EV <= mass_ev <= MAX_MASS_EV:
        raise UnusableFile(f"mass {mass_ev:g} eV is not from {MIN_MASS_EV:g} to {MAX_MASS_EV:g} eV")


def _parse_mass(text: str) -> float:
    if not text.strip():
        raise UnusableFile("no mass in masses.csv")
    try:
        mass_ev = float(text)
    except ValueError:
        raise UnusableFile(f"mass {text[:40]!r} in masses.csv is not a number") from None
    check_mass(mass_ev)
    return mass_ev


def _read_tables(root: Path, folder: str, known: set[str]) -> dict[str, str] | None:
    """Return the masses in the tables of one folder, by names relative to the root."""
    prefix = f"{folder}/" if folder else ""
    tables = mass_files(root / folder)
    masses: dict[str, str] = {}
    for table in tables:
        for name, mass in _read_table(table, prefix, known).items():
            if name in masses:
                raise DataError(
                    f"{table}: {name.removeprefix(prefix)!r} is also listed in another table"
                )
            masses[name] = mass
    return masses if tables else None


def _read_table(path: Path, prefix: str, known: set[str]) -> dict[str, str]:
    masses: dict[str, str] = {}
    for file, mass in read_columns(path, ("file", "mass_ev"), "masses"):
        name = f"{prefix}{file}"
        if name in masses:
            raise DataError(f"{path}: {file!r} is listed twice")
        if name in known:
            masses[name] = mass
    return masses


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _agree(first: str, second: str) -> bool:
    try:
        return first == second or math.isclose(float(first), float(second), rel_tol=1e-6)
    except ValueError:
        return False
