"""A grid of an image and its neighbours, read from the folder that was embedded."""

from collections.abc import Mapping, Sequence
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
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.errors import DataError, UnusableFile
from deeplens_tf.figures.image_grids import image_grid
from deeplens_tf.labels import UNLABELLED

MAX_PICTURES = 60


def neighbour_grid(about: Mapping[str, Any], files: Sequence[str], titles: Sequence[str]) -> Any:
    """Return a figure of images of the embedded folder; None if none of them can be read.

    Args:
        about: of the embeddings.
        files: names of the images; those beyond `MAX_PICTURES` are left out.
        titles: of each.
    """
    folder = about.get("data")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        return None
    wanted = list(files[:MAX_PICTURES])
    try:
        read = _prepared if is_prepared(Path(folder)) else _raw
        found = read(Path(folder), wanted, about.get("selection") or {})
    except DataError:  # the folder has changed since
        return None
    pairs = zip(wanted, titles, strict=False)
    drawn = [(found[name], title) for name, title in pairs if name in found]
    if not drawn:
        return None
    images, shown = zip(*drawn, strict=True)
    return image_grid(images, shown, title="Nearest by cosine similarity")


def _raw(
    folder: Path, names: Sequence[str], values: Mapping[str, Any]
) -> dict[str, NDArray[np.floating]]:
    selection = parse_properties(values, folder).selection
    if selection.band_files is not None:
        listed = with_bands(scan_unlabelled(folder), selection).files
        files = [file for file in listed if file.name in names]
    else:
        files = [_source(folder, name) for name in names]
    images = {}
    for file in files:
        if ".." in file.name.split("/") or file.name.startswith("/"):
            raise DataError(f"{folder}: {file.name} is outside of it")
        try:
            images[file.name] = read_source(file, None, selection)[0]
        except UnusableFile:
            continue
    return images


def _source(folder: Path, name: str) -> SourceFile:
    file, _, row = name.rpartition("#")
    if file and row.isascii() and row.isdecimal() and not (folder / name).exists():
        return SourceFile(folder / file, name, UNLABELLED, row=int(row))
    return SourceFile(folder / name, name, UNLABELLED)


def _prepared(
    folder: Path, names: Sequence[str], _: Mapping[str, Any]
) -> dict[str, NDArray[np.floating]]:
    data, images = open_folder(folder), dict[str, NDArray[np.floating]]()
    for split in SPLITS:
        if not data.count(split):
            continue
        files = data.index(split)["file"]
        files = "test/" + files if split == "test" else files
        keep = files.isin(names).to_numpy()
        if keep.any():
            (batch,) = image_batches(data, split, int(keep.sum()), keep).as_numpy_iterator()
            images |= dict(zip(files[keep], batch, strict=True))
    return images
