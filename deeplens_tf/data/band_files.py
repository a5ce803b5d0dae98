"""Images whose bands are in files of their own: the files of one image are one source file."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deeplens_tf.data.folders import SourceFile, SourceFolder
from deeplens_tf.data.formats.image_formats import suffix_of
from deeplens_tf.errors import RequestError
from deeplens_tf.preprocessing.selection import Selection

ID, BAND = "{id}", "{band}"


def check_pattern(pattern: str, names: Sequence[str] | None) -> None:
    """Refuse a pattern of file names that does not tell images and bands apart.

    Raises:
        RequestError: a placeholder is missing or comes twice, a folder is in it, its suffix is none
            of an image, or the bands have no names.
    """
    if pattern.count(ID) != 1 or pattern.count(BAND) != 1 or "/" in pattern:
        raise RequestError(
            "data.band_files must be the name of a file with {id} and {band} once, such as "
            f"'{ID}_{BAND}.fits'. Received: {pattern!r}"
        )
    if not suffix_of(pattern):
        raise RequestError(f"data.band_files must end as image files do. Received: {pattern!r}")
    if not names:
        raise RequestError(
            "data.band_files needs the names of the bands: set data.band_names, or write them into "
            "the folder's images.yaml"
        )


def with_bands(folder: SourceFolder, selection: Selection) -> SourceFolder:
    """Return a folder in which the files of an image are one, `<id>` with the pattern's suffix.

    A file whose name does not match is one without any band, which is rejected when it is read.

    Args:
        folder: as it was scanned.
        selection: the pattern and the names of the bands.

    Raises:
        RequestError: a pattern that `check_pattern` refuses, or files are stacks of images.
    """
    pattern, names = selection.band_files, selection.band_names
    if pattern is None or folder.catalog is not None:  # which names images, see `parts_of`
        return folder
    check_pattern(pattern, names)
    if selection.stacks:
        raise RequestError("data.stacks: not where data.band_files is set; leave one out")
    bands, images = names or (), dict[str, dict[str, SourceFile]]()
    unmatched = []
    for file in folder.files:
        parent, slash, name = file.name.rpartition("/")
        match = _expression(pattern, bands).fullmatch(name)
        if match is None:
            unmatched.append(replace(file, parts=()))
        else:
            image = f"{parent}{slash}{match['id']}{suffix_of(pattern)}"
            images.setdefault(image, {})[match["band"]] = file
    whole = [_image(name, found, bands) for name, found in images.items()]
    files = sorted([*whole, *unmatched], key=lambda file: file.name)
    return replace(folder, files=tuple(files))


def parts_of(root: Path, name: str, selection: Selection) -> tuple[Path | None, ...] | None:
    """Return the files of the bands of an image, None for one that is not there.

    Args:
        root: the data folder.
        name: of the image, as `with_bands` calls it, relative to the folder.
        selection: the pattern, which `check_pattern` accepts, and the names of the bands.

    Returns:
        A path for each band; no path at all for the name of a file that has another suffix than
        the pattern; None where files hold all bands.
    """
    pattern = selection.band_files
    if pattern is None:
        return None
    parent, slash, file = name.rpartition("/")
    stem = file.removesuffix(suffix_of(pattern))
    if stem in ("", file):
        return ()
    names = (pattern.replace(BAND, band).replace(ID, stem) for band in selection.band_names or ())
    paths = [root / f"{parent}{slash}{each}" for each in names]
    return tuple(path if os.path.lexists(path) else None for path in paths)


def _expression(pattern: str, bands: Sequence[str]) -> re.Pattern[str]:
    text = re.escape(pattern).replace(re.escape(ID), "(?P<id>.+)")
    anyone = "|".join(map(re.escape, bands))
    return re.compile(text.replace(re.escape(BAND), f"(?P<band>{anyone})"))


def _image(name: str, found: dict[str, SourceFile], bands: Sequence[str]) -> SourceFile:
    first = next(iter(found.values()))
    parts: tuple[Path | None, ...] = tuple(
        found[band].path if band in found else None for band in bands
    )
    return replace(first, name=name, parts=parts)
