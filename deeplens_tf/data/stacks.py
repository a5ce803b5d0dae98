"""The images in files that hold many: each is a source file of its own, `<file>#<row>`."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from deeplens_tf.data.folders import SourceFile, SourceFolder
from deeplens_tf.data.image_files import image_count
from deeplens_tf.preprocessing.selection import Selection


def with_rows(folder: SourceFolder, selection: Selection) -> SourceFolder:
    """Return a folder in which each image of a stack is a file.

    A folder with a table of images stays as it is: the table names files. So do the files of bands.

    Args:
        folder: as it was scanned. Files that cannot be opened stay as they are.
        selection: which part of a file is its images.
    """
    if folder.catalog is not None or selection.band_files is not None:
        return folder
    files = chain.from_iterable(_rows(file, selection) for file in folder.files)
    return replace(folder, files=tuple(files))


def _rows(file: SourceFile, selection: Selection) -> Iterator[SourceFile]:
    count = image_count(file.path, selection) if file.row is None else None
    if count is None:
        yield file
        return
    for row in range(count):
        yield replace(file, name=f"{file.name}#{row}", row=row)
