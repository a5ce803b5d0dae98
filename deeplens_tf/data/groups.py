"""`groups.csv`: images that belong together, such as turned copies of one object.

A group is kept on one side of the split; nothing else depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deeplens_tf.data.csv_tables import read_columns
from deeplens_tf.data.folders import SourceFolder
from deeplens_tf.errors import DataError

GROUPS_FILE = "groups.csv"


@dataclass(frozen=True)
class Groups:
    """The groups of a folder's images.

    Attributes:
        of_image: the group of each image that has one, by its name.
        unknown: number of rows that name no image of the folder.
    """

    of_image: Mapping[str, str] = field(default_factory=dict)
    unknown: int = 0


def read_groups(folder: SourceFolder) -> Groups:
    """Return the groups in a folder's `groups.csv`; none without such a table.

    The table has the columns file, the path relative to the folder, and group. A file without a
    row, or without a group in it, is a group of its own.

    Raises:
        DataError: the table cannot be read, lists a file twice, or names no image of the folder.
    """
    path = folder.root / GROUPS_FILE
    if not path.exists() and not path.is_symlink():
        return Groups()
    names = {file.name for file in folder.files}
    groups: dict[str, str] = {}
    unknown = 0
    for name, group in read_columns(path, ("file", "group"), "groups"):
        if name in groups:
            raise DataError(f"{path}: {name!r} is listed twice")
        if name in names:
            groups[name] = group
        else:
            unknown += bool(name)
    if not groups:
        raise DataError(
            f"{path}: no row names an image; column file needs paths relative to {folder.root}, "
            f"such as {folder.files[0].name}"
        )
    return Groups({name: group for name, group in groups.items() if group}, unknown)
