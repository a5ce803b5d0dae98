"""The folder of training images, with the test images beside it in the same classes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deeplens_tf.data.folders import SourceFile, SourceFolder, find_test_folder, scan_folder
from deeplens_tf.data.manifest import is_prepared
from deeplens_tf.errors import RequestError
from deeplens_tf.labels import UNLABELLED

Folders = Mapping[str, SourceFolder]  # "train", and "test" if there is a test folder


def scan_folders(source: Path) -> Folders:
    """List the images of a data folder and of its test folder, each with its own classes.

    Raises:
        RequestError: there is no such folder, or it is a prepared one.
        DataError: one of them, or one of their class folders, contains no image.
    """
    if is_prepared(source):
        raise RequestError(f"{source}: is a prepared folder already; give a folder of images")
    test = find_test_folder(source)
    folders = {"train": source} | ({"test": test} if test else {})
    return {
        split: scan_folder(folder, of_tests=split == "test") for split, folder in folders.items()
    }


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


def shown_name(split: str, folder: SourceFolder, name: str) -> str:
    """Return the path of a file relative to the source folder."""
    return f"../{folder.root.name}/{name}" if split == "test" else name
