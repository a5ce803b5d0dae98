"""Which new images a caller names: a data folder, files and folders, or those of a catalogue."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from deeplens_tf.data.band_files import parts_of, with_bands
from deeplens_tf.data.catalog import PLACES, ROLES, CatalogRequest
from deeplens_tf.data.folders import SourceFile, SourceFolder, require_folder, scan_unlabelled
from deeplens_tf.data.image_properties import PROPERTIES_FILE
from deeplens_tf.data.manifest import is_prepared
from deeplens_tf.data.passed_over import passed_over_text
from deeplens_tf.errors import RequestError
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.terminal import print_lines

Data: TypeAlias = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class GivenImages:
    """The images that a caller names.

    Attributes:
        folder: to which the names of the images are relative; None for `paths`.
        paths: files and folders, with which the names of their images begin.
        catalog: the table of the images in `folder`; None for all of them.
        is_catalog_alone: whether the folder is only where the catalogue lies.
    """

    folder: Path | None = None
    paths: tuple[Path, ...] = ()
    catalog: CatalogRequest | None = None
    is_catalog_alone: bool = False

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self._named)
        more = len(self.paths) - 1
        return f"{self.paths[0]}{f' and {more} more' if more else ''}"

    @property
    def _named(self) -> Path:
        table = self.catalog.path if self.catalog and self.is_catalog_alone else None
        return table or self.folder or self.paths[0]

    @property
    def output_name(self) -> str:
        """What to call an output: the first name, with digits of where all of them are."""
        named = self.paths[1:] if self.folder is None else ()
        return name_of_place(self._named, *named)

    @property
    def image_folders(self) -> list[Path]:
        """Folders of images, in which nothing is written."""
        if self.is_catalog_alone:
            return []
        return [path for path in (self.folder, *self.paths) if path is not None and path.is_dir()]

    @property
    def root(self) -> Path:
        """The folder to which the names of the images are relative."""
        return Path() if self.folder is None else self.folder

    @property
    def places(self) -> dict[Path, Path]:
        """Each folder in which images lie, with the one whose `images.yaml` counts for them."""
        if self.folder is not None:
            return {self.folder: self.folder}
        return {home: place_of(home) for home in dict.fromkeys(map(home_of, self.paths))}


def given_images(
    data: Data,
    catalog: str | Path | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> GivenImages:
    """Return the images that the arguments of a call name, none of which was opened.

    Args:
        data: a folder, a file, or several of both; None for those of the catalogue, whose names
            are relative to the folder that it lies in.
        catalog: the table of the images of a folder.
        columns: role -> name of its column, where that is another one.

    Raises:
        RequestError: nothing is named, a path does not exist, a catalogue of other things than a
            folder, a prepared folder among other paths, or columns without a catalogue.
    """
    request = _places_request(catalog, columns)
    if data is None:
        if request is None or request.path is None:
            raise RequestError("no images: give files or folders, --data FOLDER or --catalog TABLE")
        return GivenImages(request.path.parent, catalog=request, is_catalog_alone=True)
    if isinstance(data, str | Path) and (request is not None or Path(data).is_dir()):
        require_folder(Path(data))
        return GivenImages(Path(data), catalog=request)
    if request is not None:
        raise RequestError(
            f"--catalog {catalog}: names images relative to its own folder or to --data FOLDER: "
            "leave the other paths out"
        )
    return GivenImages(paths=_checked([data] if isinstance(data, str | Path) else data))


def home_of(path: Path) -> Path:
    """Return a folder itself, or the one that a file lies in."""
    return path if path.is_dir() else path.parent


def place_of(own: Path) -> Path:
    """Return the folder whose `images.yaml` counts for a folder: this one, or the one above it.

    A data folder has its images in itself or in folders inside it.
    """
    above = own / ".." if own.name in ("", "..") else own.parent
    files = [folder / PROPERTIES_FILE for folder in (own, above)]
    return above if not files[0].is_file() and files[1].is_file() else own


def images_of(path: Path) -> Iterator[SourceFile]:
    """Yield the image files of a path, named by it: the file itself, or those of a folder."""
    if not path.is_dir():
        yield named_file(path)
        return
    folder = scan_unlabelled(path)
    if text := passed_over_text(folder.passed_over):
        print_lines(f"{path}: {text}")
    if not folder.files:
        print_lines(f"{path}: no image file is in it")
    for file in folder.files:
        yield replace(file, name=str(path / file.name))


def named_file(path: Path) -> SourceFile:
    """Return a file, or with the name `<file>#<row>` an image of a stack."""
    file, _, row = str(path).rpartition("#")
    if row.isascii() and row.isdecimal() and not os.path.lexists(path) and Path(file).is_file():
        return SourceFile(Path(file), str(path), UNLABELLED, row=int(row))
    return SourceFile(path, str(path), UNLABELLED)


def source_of(path: Path, selection: Selection) -> SourceFile:
    """Return the image of a path, with the files of its bands where these are files of their own.

    Args:
        path: of an image; where each band has a file, it is one of these files, or the image as
            `with_bands` calls it.
        selection: which part of a file is its image.

    Raises:
        RequestError: no such file, or `with_bands` refuses the pattern.
    """
    file = named_file(path)
    is_there = os.path.lexists(file.path)
    if selection.band_files is not None:
        whole = with_bands(SourceFolder(path.parent, (), (file,)), selection).files[0]
        name = whole.name if whole.parts else file.name
        parts = parts_of(Path(), name, selection)
        file, is_there = replace(file, name=name, parts=parts), is_there or any(parts or ())
    if not is_there:
        raise RequestError(f"{path}: no such image file")
    return file


def name_of_place(path: Path, *others: Path) -> str:
    """Return a name for what is written about paths: the first one's, with digits of all."""
    places = [each.resolve() for each in (path, *others)]
    digest = hashlib.sha256("\0".join(map(str, places)).encode("utf-8", "surrogateescape"))
    return f"{places[0].name}-{digest.hexdigest()[:8]}"


def _checked(given: Sequence[str | Path]) -> tuple[Path, ...]:
    paths = tuple(map(Path, given))
    if not paths:
        raise RequestError("no images: the list of files and folders is empty")
    for path in paths:
        if not os.path.lexists(named_file(path).path):
            is_glob = any(sign in path.name for sign in "*?[")
            hint = ": no file has a name of this pattern" if is_glob else ""
            raise RequestError(f"{path}: no such folder or file{hint}")
        if is_prepared(path):
            raise RequestError(f"{path}: prepared already: give it alone, by --data")
    return paths


def _places_request(
    catalog: str | Path | None, columns: Mapping[str, str | None] | None
) -> CatalogRequest | None:
    """Return the request for the part of a catalogue that is used here: files and places."""
    if catalog is None:
        if columns:
            raise RequestError("catalog_columns: of no use without a catalogue")
        return None
    CatalogRequest.of(catalog, columns)  # refuses names that are no roles
    used = ("file", "row", "pixel_scale", *PLACES)
    unread = {role: None for role in ROLES if role not in used}
    given = {role: name for role, name in (columns or {}).items() if role in used}
    return CatalogRequest.of(catalog, {**unread, **given})
