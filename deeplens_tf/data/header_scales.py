"""The pixel scale that the headers of FITS files state."""

from pathlib import Path

from deeplens_tf.data.folders import SourceFile, image_folders, names_of_images
from deeplens_tf.data.formats.image_formats import Selection, is_fits_name
from deeplens_tf.errors import UnusableFile


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
    """Return the pixel scale of the first FITS file of a data folder, in the order of names.

    None if there is no FITS file in it or in a folder inside it, or if its header has no scale.
    """
    for folder in image_folders(root) if root.is_dir() else ():
        if names := [name for name in names_of_images(folder) if is_fits_name(name)]:
            first = min(names)
            try:
                return header_scale(SourceFile(folder / first, first, 0), selection)
            except UnusableFile:  # reading the file gives the reason
                return None
    return None
