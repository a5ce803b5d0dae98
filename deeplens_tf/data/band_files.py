"""Images whose bands are in files of their own: the files of one image are one source file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deeplens_tf.data.folders import SourceFile, SourceFolder
from deeplens_tf.data.formats.image_formats import Selection, suffix_of
from deeplens_tf.errors import RequestError

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
        RequestError: a pattern that `check_pattern` refuses, a table names the images, or files are
            stacks of images.
    """
    pattern, names = selection.band_files, selection.band_names
    if pattern is None:
        return folder
    check_pattern(pattern, names)
    if selection.stacks:
        raise RequestError("data.stacks: not where data.band_files is set; leave one out")
    if folder.catalog is not None:
        raise RequestError(
            f"data.band_files: {folder.catalog.path} names the images; leave one out"
        )
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
