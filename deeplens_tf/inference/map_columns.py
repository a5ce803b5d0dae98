"""What is known of each image of embeddings: its class, its axion mass, columns of tables."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplens_tf.data.catalog_tables import open_table
from deeplens_tf.data.manifest import SPLITS, is_prepared
from deeplens_tf.data.mass_tables import read_masses
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.embedded_images import (
    embedded_folder,
    prepared_files,
    require_inside,
)
from deeplens_tf.labels import UNLABELLED

CLASS_COLUMN, MASS_COLUMN = "class", "mass_ev"
MAX_COLORINGS = 20
NOT_COLORED = frozenset({"file", "row", "id", "ra", "dec"})

Columns = dict[str, list[str]]


def columns_of(
    about: Mapping[str, Any], files: Sequence[str], tables: Sequence[Path], asked: Sequence[str]
) -> Columns:
    """Return what is known of each file, by the name of the column; "" for nothing.

    Args:
        about: of the embeddings.
        files: of the images.
        tables: with a column `file`; a column of a later table replaces one of the same name.
        asked: the columns to return; without any, all that are known.

    Raises:
        RequestError: a column that is asked for is not there, or more are known than can be drawn.
        DataError: a table cannot be used, or none of its rows is about an image.
    """
    known = _own_columns(about, files)
    for path in tables:
        known |= _table_columns(path, files, asked)
    missing = [name for name in asked if name not in known]
    if missing:
        raise RequestError(f"--color-by {missing[0]}: {_choices(known)}")
    if not asked and len(known) > MAX_COLORINGS:
        raise RequestError(
            f"{len(known)} columns, at most {MAX_COLORINGS} are drawn: choose with --color-by"
        )
    return {name: known[name] for name in dict.fromkeys(asked or known)}


def _choices(known: Columns) -> str:
    if known:
        return f"known are {', '.join(known)}; a table of --table may have others"
    return "nothing is known of the images: give a table with --table"


def _own_columns(about: Mapping[str, Any], files: Sequence[str]) -> Columns:
    """Return the classes and the masses of the folder that was embedded, where there are any."""
    folder = embedded_folder(about)
    if folder is not None and is_prepared(folder):
        found = _of_prepared(folder, files)
    else:
        found = {CLASS_COLUMN: [_class_of(file) for file in files]}
        if folder is not None:
            require_inside(folder, files)
            masses = read_masses(folder, files)
            of_file = {file: mass for table in masses.values() for file, mass in table.items()}
            found[MASS_COLUMN] = [of_file.get(file, "") for file in files]
    return {name: texts for name, texts in found.items() if any(texts)}


def _class_of(file: str) -> str:
    """Return the folder that an image lies in, "" for none."""
    folders = file.split("/")[:-1]
    return folders[-1] if folders else ""


def _of_prepared(folder: Path, files: Sequence[str]) -> Columns:
    data = open_folder(folder)
    classes, masses = dict[str, str](), dict[str, str]()
    for split in SPLITS:
        if not data.count(split):
            continue
        index, names = data.index(split), prepared_files(data, split)
        for name, label, mass in zip(names, index["label"], index["mass_ev"], strict=True):
            classes[name] = "" if label == UNLABELLED else data.classes[label]
            masses[name] = "" if mass != mass else repr(float(mass))
    return {
        CLASS_COLUMN: [classes.get(file, "") for file in files],
        MASS_COLUMN: [masses.get(file, "") for file in files],
    }


def _table_columns(path: Path, files: Sequence[str], asked: Sequence[str]) -> Columns:
    table = open_table(path)
    if "file" not in table.columns:
        raise DataError(f"{path}: no column file, the name of the image as in the embeddings")
    wanted = [name for name in table.columns if name and name not in NOT_COLORED]
    wanted = [name for name in table.columns if name in asked] if asked else wanted
    if not wanted:
        given = ", ".join(table.columns)
        raise RequestError(f"{path}: none of its columns is asked for or can be drawn: {given}")
    places = [table.columns.index(name) for name in wanted]
    known, rows = set(files), dict[str, list[str]]()
    for name, row in _named_rows(table.columns, table.rows):
        if name in rows:
            raise DataError(f"{path}: two rows of {name}")
        if name in known:
            rows[name] = [row[place] for place in places]
    if not rows:
        raise DataError(f"{path}: no row names an image of the embeddings, such as {files[0]}")
    nothing = [""] * len(wanted)
    values = zip(*(rows.get(file, nothing) for file in files), strict=True)
    return dict(zip(wanted, map(list, values), strict=True))


def _named_rows(
    columns: Sequence[str], rows: Iterator[Sequence[str]]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the rows with the names of their images, `<file>#<row>` for one of a stack."""
    file, row = columns.index("file"), columns.index("row") if "row" in columns else -1
    for values in rows:
        of_stack = row >= 0 and values[row]
        yield f"{values[file]}#{values[row]}" if of_stack else values[file], values
