"""The content of a folder of images: its classes and its files.

Links to files and to class folders are followed, because large collections are often stored
elsewhere. Only two levels are scanned, so no link can cause a loop. No file is opened here.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deeplens_tf.data.catalog import Catalog
from deeplens_tf.data.formats.image_formats import is_image_name
from deeplens_tf.data.passed_over import FOLDERS, count_kinds, passed_over_text
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.labels import UNLABELLED

_SPLIT = "(?:train|training|val|valid|validation|test|testing)"
_SPLIT_NAME = re.compile(rf"{_SPLIT}([ _-]?(set|split|data|images))?")
_SPLIT_SUFFIX = re.compile(rf"(.+)[ _-]{_SPLIT}", re.IGNORECASE)
_TRAINING = re.compile(r"(^|[ _-])train")


@dataclass(frozen=True)
class SourceFile:
    """One image file of a folder.

    Attributes:
        path: the file's path.
        name: its path relative to the folder, with forward slashes, such as `axion/x.npy`.
        label: index of its class in `SourceFolder.classes`, -1 without classes.
        row: which image of a stack it is, with the name `<file>#<row>`; None for a whole file.
        parts: the files of its bands, None for one that is missing, if each is in a file of its
            own.
        row_scale_arcsec: the pixel scale that a catalogue states for it, which may not be positive;
            None if it states none.
    """

    path: Path
    name: str
    label: int
    row: int | None = None
    parts: tuple[Path | None, ...] | None = None
    row_scale_arcsec: float | None = None

    @property
    def file_name(self) -> str:
        """The name without the row."""
        return self.name if self.row is None else self.name.rpartition("#")[0]

    @property
    def sources(self) -> dict[str, Path]:
        """Path of each file that is read for it, by its name relative to the folder."""
        if not self.parts:
            return {self.file_name: self.path}
        parent = "".join(self.name.rpartition("/")[:2])
        return {f"{parent}{part.name}": part for part in self.parts if part is not None}


@dataclass(frozen=True)
class SourceFolder:
    """A folder of images, sorted by name.

    Attributes:
        root: the folder.
        classes: names of the class folders, or of the classes in a catalogue, sorted; empty for
            unlabelled data.
        files: the image files, sorted by name.
        strays: names of image files next to the class folders, which have no class, or of files
            that a catalogue does not use.
        passed_over: number of files that are not read, by their suffix, and of folders within
            class folders; see `passed_over.count_kinds`.
        catalog: the table that lists the images; None for folders that are the classes.
        part: whether the other files of the catalogue are in another split.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    strays: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    catalog: Catalog | None = None
    part: bool = False

    @property
    def known_names(self) -> Collection[str]:
        """Names of the images that a table in the folder may list: all those of a catalogue."""
        return [file.name for file in self.files] if self.catalog is None else self.catalog.labels

    @property
    def image_folders(self) -> list[str]:
        """The folders, relative to the root, whose tables are read."""
        if self.catalog is None:
            return [".", *self.classes]
        return sorted({".", *(file.name.rpartition("/")[0] or "." for file in self.files)})


def scan_folder(root: Path, *, of_tests: bool = False) -> SourceFolder:
    """List the images of a folder of class folders, or of a folder of unlabelled images.

    Hidden entries are ignored, and files with other suffixes are counted.

    Args:
        root: the folder.
        of_tests: whether it is a folder of test images, which may lack images of a class.

    Raises:
        RequestError: the folder does not exist, or its class folders are splits.
        DataError: the folder, or one of the class folders that must have one, contains no image.
    """
    require_folder(root)
    classes = tuple(sorted(entry.name for entry in _entries(root) if _is_folder(entry)))
    _refuse_splits(root, classes)
    loose = tuple(sorted(names_of_images(root)))
    passed_over = count_kinds(_other_names(root), at_root=True)
    if classes:
        files, of_classes = _labelled_files(root, classes)
        if not (of_tests and files):
            _require_all_classes(root, classes, files)
        return SourceFolder(root, classes, files, loose, passed_over + of_classes)
    if not loose:
        raise DataError(f"{root}: no class folder and no image in it{_hint(root, passed_over)}")
    files = tuple(SourceFile(root / name, name, UNLABELLED) for name in loose)
    return SourceFolder(root, (), files, passed_over=passed_over)


def scan_unlabelled(root: Path) -> SourceFolder:
    """List the images of a folder and of its subfolders, whatever these are called.

    Raises:
        RequestError: the folder does not exist.
    """
    require_folder(root)
    names, passed_over = [*names_of_images(root)], count_kinds(_other_names(root), at_root=True)
    for inside in (entry.name for entry in _entries(root) if _is_folder(entry)):
        names += [f"{inside}/{name}" for name in names_of_images(root / inside)]
        passed_over += count_kinds(_other_names(root / inside), at_root=False)
    files = tuple(SourceFile(root / name, name, UNLABELLED) for name in sorted(names))
    return SourceFolder(root, (), files, passed_over=passed_over)


def image_folders(root: Path) -> list[Path]:
    """Return a data folder and the folders in it, sorted by name, which may be classes."""
    return [root, *sorted(root / entry.name for entry in _entries(root) if _is_folder(entry))]


def has_class_folders(root: Path) -> bool:
    """Return whether there is a folder in a data folder, which is a class."""
    return any(_is_folder(entry) for entry in _entries(root))


def require_folder(root: Path) -> None:
    """Refuse a data folder that does not exist, before any slow work begins.

    Raises:
        RequestError: there is no such folder.
    """
    if not root.is_dir():
        raise RequestError(
            f"{root}: {'not a folder' if root.exists() else 'no such folder'}; "
            "give a folder of images, or make one with `deeplens-tf simulate`"
        )


def find_test_folder(root: Path) -> Path | None:
    """Return the folder of test images next to `root`, `<name>_test`, or None."""
    absolute = root.absolute()
    test = absolute.parent / f"{absolute.name}_test"
    return test if test.is_dir() else None


def _refuse_splits(root: Path, classes: tuple[str, ...]) -> None:
    """Refuse class folders that are the splits of a data set, by their names."""
    stems = Counter(map(_stem, classes))  # `lenses` of lenses_train and of lenses_test
    splits = [
        name
        for name in classes
        if _SPLIT_NAME.fullmatch(name.lower()) or (_stem(name) != name and stems[_stem(name)] > 1)
    ]
    if splits:
        training = [name for name in classes if f"{name}_test" in classes]
        training += [name for name in splits if _TRAINING.search(name.lower())]
        folder = root / training[0] if training else root.absolute()
        raise RequestError(
            f"{root}: {', '.join(splits)}: splits of a data set, not classes; give {folder} as the "
            f"data folder, and put test images beside it, in {folder}_test; validation images are "
            "taken from the training images"
        )


def _stem(name: str) -> str:
    """Return a name without the name of a split at its end."""
    match = _SPLIT_SUFFIX.fullmatch(name)
    return match[1] if match else name


def _labelled_files(
    root: Path, classes: tuple[str, ...]
) -> tuple[tuple[SourceFile, ...], Counter[str]]:
    """Return the images in class folders, and the number of files of each kind passed over."""
    files: list[SourceFile] = []
    passed_over: Counter[str] = Counter()
    for label, name in enumerate(classes):
        folder = root / name
        images = sorted(names_of_images(folder))
        files += [SourceFile(folder / image, f"{name}/{image}", label) for image in images]
        passed_over += _others_in_class(folder)
    return tuple(sorted(files, key=lambda file: file.name)), passed_over


def _others_in_class(folder: Path) -> Counter[str]:
    counts = count_kinds(_other_names(folder), at_root=False)
    if inside := sum(_is_folder(entry) for entry in _entries(folder)):
        counts[FOLDERS] = inside
    return counts


def _require_all_classes(
    root: Path, classes: tuple[str, ...], files: tuple[SourceFile, ...]
) -> None:
    found = {file.label for file in files}
    for folder in (root / name for label, name in enumerate(classes) if label not in found):
        hint = _hint(folder, _others_in_class(folder))
        raise DataError(f"{folder}: no image in this class folder{hint}")


def _hint(folder: Path, passed_over: Mapping[str, int]) -> str:
    """Return what lies in a folder instead of images, and what to do with it, or nothing."""
    if FOLDERS in passed_over:
        return f"; if the folders in it are the classes, give {folder} as the data folder"
    text = passed_over_text(passed_over)
    return f"; {text}" if text else ""


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith((".", "__")))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: reading it gives the reason
        return False


def names_of_images(folder: Path) -> Iterator[str]:
    """Yield the names of the image files of a folder, in any order."""
    # Broken links and pipes are included: reading them gives the reason for rejecting them.
    for entry in _entries(folder):
        if is_image_name(entry.name) and not _is_folder(entry):
            yield entry.name


def _other_names(folder: Path) -> Iterator[str]:
    for entry in _entries(folder):
        if not is_image_name(entry.name) and not _is_folder(entry):
            yield entry.name
