"""The images of embeddings, read again from the folder that was embedded."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.band_files import with_bands
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.folders import SourceFile, scan_unlabelled
from deeplens_tf.data.image_files import read_source
from deeplens_tf.data.image_properties import parse_properties
from deeplens_tf.data.manifest import SPLITS, is_prepared
from deeplens_tf.data.prepared_data import PreparedData, open_folder
from deeplens_tf.errors import DataError, UnusableFile
from deeplens_tf.labels import UNLABELLED

PREPARED_BATCH = 256  # images that are in memory at once

Image = NDArray[np.floating]


def embedded_folder(about: Mapping[str, Any]) -> Path | None:
    """Return the folder that was embedded; None if it is not there."""
    folder = about.get("data")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        return None
    return Path(folder)


def embedded_images(about: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, Image]]:
    """Yield the images that can be read, with their names; not always in the order of the names.

    Args:
        about: of the embeddings.
        names: of the images.

    Raises:
        DataError: a name that is outside of the folder, or the folder has changed since.
    """
    folder = embedded_folder(about)
    if folder is None:
        return iter(())
    if is_prepared(folder):
        return _prepared(folder, names)
    return _raw(folder, names, about.get("selection") or {})


def require_inside(folder: Path, names: Sequence[str]) -> None:
    """Refuse names, which may be a stranger's, that leave a folder.

    Raises:
        DataError: one does.
    """
    for name in names:
        if ".." in name.split("/") or name.startswith("/"):
            raise DataError(f"{folder}: {name} is outside of it")


def prepared_files(data: PreparedData, split: str) -> list[str]:
    """Return the names of the images of a split, as embeddings have them."""
    start = "test/" if split == "test" else ""
    return [f"{start}{file}" for file in data.index(split)["file"]]


def _raw(
    folder: Path, names: Sequence[str], values: Mapping[str, Any]
) -> Iterator[tuple[str, Image]]:
    require_inside(folder, names)
    selection = parse_properties(values, folder).selection
    files = (_source(folder, name) for name in names)
    if selection.band_files is not None:
        wanted = set(names)
        listed = with_bands(scan_unlabelled(folder), selection).files
        files = (file for file in listed if file.name in wanted)
    for file in files:
        try:
            yield file.name, read_source(file, None, selection)[0]
        except UnusableFile:
            continue


def _source(folder: Path, name: str) -> SourceFile:
    file, _, row = name.rpartition("#")
    if file and row.isascii() and row.isdecimal() and not (folder / name).exists():
        return SourceFile(folder / file, name, UNLABELLED, row=int(row))
    return SourceFile(folder / name, name, UNLABELLED)


def _prepared(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Image]]:
    data, wanted = open_folder(folder), set(names)
    for split in SPLITS:
        files = prepared_files(data, split) if data.count(split) else []
        keep = np.array([file in wanted for file in files], bool)
        if keep.any():
            batches = image_batches(data, split, PREPARED_BATCH, keep).as_numpy_iterator()
            images = (image for batch in batches for image in batch)
            yield from zip(compress(files, keep), images, strict=True)
