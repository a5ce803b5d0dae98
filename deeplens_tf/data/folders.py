"""The content of a folder of images: its classes, its files and a fingerprint of both.

Links to files and to class folders are followed, because large collections are often stored
elsewhere. Only two levels are scanned, so no link can cause a loop. No file is opened here.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deeplens_tf.data.mass_tables import mass_files
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.labels import UNLABELLED

IMAGE_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class SourceFile:
    """One image file of a folder.

    Attributes:
        path: the file's path.
        name: its path relative to the folder, with forward slashes, such as `axion/x.npy`.
        label: index of its class in `SourceFolder.classes`, -1 without classes.
    """

    path: Path
    name: str
    label: int


@dataclass(frozen=True)
class SourceFolder:
    """A folder of images, sorted by name.

    Attributes:
        root: the folder.
        classes: names of the class folders, sorted; empty for unlabelled data.
        files: the image files, sorted by name.
        strays: names of image files next to the class folders, which have no class.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    strays: tuple[str, ...] = ()


def scan_folder(root: Path) -> SourceFolder:
    """List the images of a folder of class folders, or of a folder of unlabelled images.

    Hidden entries and files with other suffixes are ignored.

    Raises:
        RequestError: the folder does not exist.
        DataError: the folder, or one of its class folders, contains no image.
    """
    require_folder(root)
    classes = tuple(sorted(entry.name for entry in _entries(root) if _is_folder(entry)))
    loose = tuple(sorted(_image_names(root)))
    if classes:
        return SourceFolder(root, classes, _labelled_files(root, classes), strays=loose)
    if not loose:
        raise DataError(f"{root}: no class folder and no .npy or .npz image in it")
    return SourceFolder(root, (), tuple(SourceFile(root / n, n, UNLABELLED) for n in loose))


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


def fingerprint(*folders: SourceFolder) -> str:
    """Return a digest of the names, sizes and times of the image files and tables of masses."""
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(repr(folder.classes).encode())
        for name, path in sorted(_images_and_tables(folder)):
            status = path.lstat() if not path.exists() else path.stat()
            digest.update(f"{name!r} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _labelled_files(root: Path, classes: tuple[str, ...]) -> tuple[SourceFile, ...]:
    files: list[SourceFile] = []
    for label, name in enumerate(classes):
        images = sorted(_image_names(root / name))
        if not images:
            raise DataError(f"{root / name}: no .npy or .npz image in this class folder")
        files += [SourceFile(root / name / image, f"{name}/{image}", label) for image in images]
    return tuple(sorted(files, key=lambda file: file.name))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith((".", "__")))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: reading it gives the reason
        return False


def _image_names(folder: Path) -> Iterator[str]:
    # Broken links and pipes are included: reading them gives the reason for rejecting them.
    for entry in _entries(folder):
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and not _is_folder(entry):
            yield entry.name


def _images_and_tables(folder: SourceFolder) -> Iterator[tuple[str, Path]]:
    yield from ((file.name, file.path) for file in folder.files)
    yield from ((name, folder.root / name) for name in folder.strays)
    for name in (".", *folder.classes):
        yield from ((f"{name}/{path.name}", path) for path in mass_files(folder.root / name))
