"""What a data folder holds besides images, counted by kind: it may be what the user meant."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from deeplens_tf.data.formats.image_formats import READ_TEXT
from deeplens_tf.data.mass_tables import is_mass_table
from deeplens_tf.data.relations import is_object_table
from deeplens_tf.terminal import counted

ROOT_FILES = ("simulation.json", "images.yaml", "groups.csv")  # read, or written by `simulate`
LABELS_FILE = "labels.csv"  # a catalogue, but not beside class folders
FOLDERS, NO_SUFFIX = "folders", "no suffix"

_CATALOG = re.compile(r"catalog(-\d+-of-\d+)?\.csv")  # written by `simulate`
_NOTES = ("README", "LICENSE", "LICENCE")
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}(\.(gz|bz2|xz|zst|fz))?$")


def count_kinds(names: Iterable[str], at_root: bool) -> Counter[str]:
    """Return the number of files of each kind that are passed over, such as {".pdf": 18}.

    Args:
        names: of the files in a data folder or in a class folder that are no images.
        at_root: whether it is the data folder itself.
    """
    unread = (name for name in names if not (is_mass_table(name) or (at_root and _is_own(name))))
    return Counter(_kind(name) for name in unread if not name.upper().startswith(_NOTES))


def passed_over_text(counts: Mapping[str, int]) -> str:
    """Return the counts in words, or nothing: `18 .pdf files passed over: only ...`."""
    kinds = ", ".join(_words(kind, counts[kind]) for kind in sorted(counts) if kind != LABELS_FILE)
    parts = [f"{kinds} passed over: {READ_TEXT}"] if kinds else []
    if LABELS_FILE in counts:
        parts.append(
            f"{LABELS_FILE} is not read: it is where images lie beside it and no class folder "
            "does, or where data.catalog names it"
        )
    return "; ".join(parts)


def _is_own(name: str) -> bool:
    return name in ROOT_FILES or is_object_table(name) or bool(_CATALOG.fullmatch(name))


def _kind(name: str) -> str:
    name = name.lower()
    suffix = _SUFFIX.search(name)
    return LABELS_FILE if name == LABELS_FILE else suffix[0] if suffix else NO_SUFFIX


def _words(kind: str, count: int) -> str:
    if kind == FOLDERS:
        return f"{counted(count, 'folder')} inside class folders"
    if kind == NO_SUFFIX:
        return f"{counted(count, 'file')} without a suffix"
    return counted(count, f"{kind} file")
