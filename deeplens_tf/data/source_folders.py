"""The training images and the test images, which lie beside them or are named in a catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.catalog_folders import catalog_path, scan_catalog
from deeplens_tf.data.catalog_rows import WHOLE_FILES
from deeplens_tf.data.folders import (
    SourceFile,
    SourceFolder,
    find_test_folder,
    require_folder,
    scan_folder,
)
from deeplens_tf.data.manifest import is_prepared
from deeplens_tf.errors import RequestError
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.preprocessing.selection import Selection

Folders = Mapping[str, SourceFolder]  # "train", and "test" if there are test images
FOLDERS_ALONE = CatalogRequest()


def scan_folders(
    source: Path, request: CatalogRequest = FOLDERS_ALONE, selection: Selection = WHOLE_FILES
) -> Folders:
    """List the images of a data folder and of its test folder, each with its own classes.

    Args:
        source: the data folder.
        request: the catalogue of its images. A test folder may have a `labels.csv` of its own, or
            a table with the name of a catalogue that lies in the data folder.
        selection: what a catalogue names where each band is in a file of its own.

    Raises:
        RequestError: there is no such folder or catalogue, or it is a prepared folder; or the
            catalogue names test images, and there is a test folder too.
        DataError: one of them, or one of their class folders, contains no image; or a catalogue
            cannot be used.
    """
    if is_prepared(source):
        raise RequestError(f"{source}: is a prepared folder already; give a folder of images")
    test, folders = find_test_folder(source), _scan(source, request, selection)
    if request.columns and folders["train"].catalog is None:
        raise RequestError(f"data.catalog_columns: {source} has no labels.csv; set data.catalog")
    if test is None:
        return folders
    if "test" in folders:
        raise RequestError(
            f"{source}: its catalogue names test images, and {test} is a folder of test images: "
            "remove one of them"
        )
    columns = CatalogRequest(
        _table_of_tests(source, test, request), {**request.columns, "split": None}
    )
    return {**folders, "test": _scan(test, columns, selection, of_tests=True)["train"]}


def _table_of_tests(source: Path, test: Path, request: CatalogRequest) -> Path | None:
    """Return the catalogue in a test folder that is called as that in the data folder, if any."""
    if request.path is None or request.path.resolve().parent != source.resolve():
        return None
    own = test / request.path.name
    return own if own.is_file() else None


def _scan(
    root: Path, request: CatalogRequest, selection: Selection, *, of_tests: bool = False
) -> Folders:
    require_folder(root)
    path = catalog_path(root, request)
    if path is not None:
        return scan_catalog(root, path, request, selection)
    return {"train": scan_folder(root, of_tests=of_tests)}


def with_common_classes(folders: Folders) -> tuple[Folders, list[SourceFile]]:
    """Give the test images the labels that their classes have in training.

    Args:
        folders: as they were scanned.

    Returns:
        The folders, the test folder with the classes of the training folder, of which it may lack
        some; and the test images that are left out, as they were scanned: their class is one that
        training lacks, or they have none.
    """
    if "test" not in folders:
        return folders, []
    train, test = folders["train"], folders["test"]
    labels = dict.fromkeys(range(-1, len(test.classes)), UNLABELLED)
    if train.classes:
        known = {name: label for label, name in enumerate(train.classes)}
        labels |= {label: known.get(name, UNLABELLED) for label, name in enumerate(test.classes)}
    files = [replace(file, label=labels[file.label]) for file in test.files]
    is_kept = [file.label != UNLABELLED or not train.classes for file in files]
    kept = tuple(file for file, keep in zip(files, is_kept, strict=True) if keep)
    foreign = [file for file, keep in zip(test.files, is_kept, strict=True) if not keep]
    return {"train": train, "test": replace(test, classes=train.classes, files=kept)}, foreign


def kept_columns(folders: Folders) -> tuple[str, ...]:
    """Return the columns of the catalogue that are kept with the images; none without one."""
    catalog = folders["train"].catalog
    return () if catalog is None else catalog.kept


def texts_of(folder: SourceFolder, name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Return what an image has in columns of the catalogue, "" for nothing."""
    return folder.catalog.texts(name, columns) if folder.catalog else ("",) * len(columns)


def shown_name(split: str, folder: SourceFolder, name: str) -> str:
    """Return the path of a file relative to the source folder."""
    return f"../{folder.root.name}/{name}" if split == "test" and not folder.part else name
