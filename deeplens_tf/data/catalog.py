"""A catalogue: a table that says which images there are, and what each one is.

It replaces class folders. Its column `file` names an image by its path relative to the data folder;
the columns in `ROLES` are what `groups.csv`, `objects.csv` and class folders say elsewhere, and
every other column of numbers is kept with the images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deeplens_tf.data.manifest import CatalogFacts
from deeplens_tf.data.relations import Relation
from deeplens_tf.errors import RequestError

ROLES = ("file", "row", "id", "label", "group", "object", "split", "ra", "dec", "pixel_scale")
OTHER_NAMES = {"pixel_scale": "pixel_scale_arcsec"}  # of columns that are not called as the role
PLACES = ("id", "ra", "dec")  # kept with an image as they are, and written with its prediction
MAX_VALUE_CHARACTERS = 200  # characters of a class's name, or of what is kept with an image
NO_NUMBER = frozenset({"", "nan", "na", "n/a", "null", "none", "--"})  # in lower case

SEPARATOR = "\n"  # between the values that are kept of an image; none of them contains it


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
        pixel_scales: of the images that have one, in arcsec; it may not be positive.
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
    pixel_scales: Mapping[str, float]
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
        found = dict(zip(self._read, self._texts.get(name, "").split(SEPARATOR), strict=False))
        return tuple(found.get(column, "") if column in self.kept else "" for column in columns)
