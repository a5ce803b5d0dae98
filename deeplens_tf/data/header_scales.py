"""The pixel scale that the headers of FITS files state."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from deeplens_tf.data.folders import SourceFile, image_folders, names_of_images
from deeplens_tf.data.formats.image_formats import Selection, is_fits_name
from deeplens_tf.errors import UnusableFile

MAX_HEADERS = 100  # that are read to find a pixel scale


def header_scale(file: SourceFile, selection: Selection) -> float | None:
    """Return the pixel scale in arcsec that the header of a file states, None if it has none.

    Args:
        file: of any format; of bands in files of their own the first one counts.
        selection: which HDU of a FITS file is its image.

    Raises:
        UnusableFile: a damaged header.
    """
    path = next((part for part in file.parts or () if part is not None), file.path)
    if not is_fits_name(path.name):
        return None
    from deeplens_tf.data.formats.fits import read_scale

    try:
        return read_scale(path, selection.fits_hdu)
    except OSError as error:
        raise UnusableFile(f"cannot be read: {error.strerror or error}") from error


def first_header_scale(root: Path, selection: Selection) -> float | None:
    """Return the pixel scale of the first FITS file of a data folder whose header has one.

    Files are in the order of names. None if there is no such file among the first `MAX_HEADERS` of
    the folder and of the folders inside it.
    """
    for path in islice(_fits_files(root), MAX_HEADERS):
        with suppress(UnusableFile):  # such as a table: reading the images gives the reason
            if (found := header_scale(SourceFile(path, path.name, 0), selection)) is not None:
                return found
    return None


def holds_fits(root: Path) -> bool:
    """Return whether a FITS file is in a data folder or in a folder inside it, by its name."""
    return next(_fits_files(root), None) is not None


def _fits_files(root: Path) -> Iterator[Path]:
    for folder in image_folders(root) if root.is_dir() else ():
        yield from sorted(folder / name for name in names_of_images(folder) if is_fits_name(name))
