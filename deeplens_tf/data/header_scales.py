"""The pixel scale that is stated for an image: by the header of its FITS file, or a catalogue."""

import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.catalog_folders import first_catalog_scale
from deeplens_tf.data.folders import SourceFile, image_folders, names_of_images
from deeplens_tf.data.formats.image_formats import is_fits_name
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.framing import same_scale
from deeplens_tf.preprocessing.selection import Selection

MAX_HEADERS = 100  # that are read to find a pixel scale


def stated_scale(file: SourceFile, selection: Selection) -> float | None:
    """Return the pixel scale in arcsec that is stated for an image, None if none is.

    That of the header counts, since it is written for this image; a catalogue may confirm it.

    Args:
        file: of any format, with what its row in a catalogue says.
        selection: which HDU of a FITS file is its image.

    Raises:
        UnusableFile: a damaged header, a scale that is not positive, or header and catalogue differ
            by more than 2 %.
    """
    header, row = header_scale(file, selection), file.row_scale_arcsec
    if row is None:
        return header
    if not 0 < row < math.inf:
        raise UnusableFile(f"its row in the catalogue states pixels of {row:.4g} arcsec")
    if header is not None and not same_scale(header, row):
        raise UnusableFile(
            f"its header states pixels of {header:.4g} arcsec, and its row in the catalogue "
            f"{row:.4g}: correct one of them"
        )
    return row if header is None else header


def first_stated_scale(
    root: Path, request: CatalogRequest | None, selection: Selection
) -> float | None:
    """Return the pixel scale of the first image that states one, in a catalogue or in a header.

    Args:
        root: the data folder.
        request: its catalogue, which counts before the headers; None for the headers alone.
        selection: which HDU of a FITS file is its image.

    Raises:
        RequestError: no such catalogue, or a column is not in it.
        DataError: the catalogue cannot be used.
    """
    own = None if request is None else first_catalog_scale(root, request, selection)
    return own or first_header_scale(root, selection)


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
