"""The only module that opens users' image files.

Every file is untrusted. Its size is checked before memory is allocated, and every fault becomes an
`UnusableFile` with the reason that is written to `rejected.csv`.
"""

import stat
from pathlib import Path

import numpy as np

from deeplens_tf.data.folders import SourceFile
from deeplens_tf.data.formats.image_formats import FIRST_BYTES, format_of
from deeplens_tf.data.image_axes import bands_last
from deeplens_tf.data.npy import MAX_VALUES, byte_text
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.selection import Selection

MAX_IMAGE_FILE_BYTES = 10**9
MAX_STACK_FILE_BYTES = 10**11  # of many images, which are read one by one


def read_image(
    path: str | Path,
    bands: int | None = None,
    selection: Selection | None = None,
    row: int | None = None,
) -> tuple[np.ndarray, float | None]:
    """Read one image file of a format in `formats.image_formats`, which its first bytes decide.

    Args:
        path: a regular file or a link to one.
        bands: number of bands that was asked for. An axis longer than 10 counts bands only if it
            has this length; without it, such an array is refused as a stack of images.
        selection: which part of a file is its image; None for the only or first one.
        row: which image of a stack; None for a file that is one image.

    Returns:
        The image, floating point, (height, width, bands), and the axion mass in eV that the file
        contains, or None. Mass and values are unchecked: `resize_and_scale` checks the values that
        it keeps.

    Raises:
        UnusableFile: with the reason, for anything but one real-valued image.
    """
    path = Path(path)
    try:
        size = _file_size(path, MAX_IMAGE_FILE_BYTES if row is None else MAX_STACK_FILE_BYTES)
        with path.open("rb", buffering=0) as stream:
            known = format_of(stream.read(FIRST_BYTES))
        if row is not None and known.count is None:
            raise UnusableFile(f"row {row} of a file that holds one image, not a stack of them")
        array, mass_ev = known.read(path, size, selection or Selection(), row)
    except OSError as error:
        raise UnusableFile(f"cannot be read: {error.strerror or error}") from error
    return bands_last(array, bands), mass_ev


def read_source(
    file: SourceFile, bands: int | None, selection: Selection
) -> tuple[np.ndarray, float | None]:
    """Read the image of a source file, which may be a row of a stack or of several files.

    Args:
        file: of a folder.
        bands: see `read_image`.
        selection: which part of a file is its image.

    Raises:
        UnusableFile: see `read_image`; or a band is missing or differs in size.
    """
    if file.parts is None:
        return read_image(file.path, bands, selection, file.row)
    if not file.parts:
        raise UnusableFile(f"its name is not as data.band_files={selection.band_files}")
    images: list[np.ndarray] = []
    for name, path in zip(selection.band_names or (), file.parts, strict=True):
        images.append(_read_band(name, path, selection))
        if sum(image.size for image in images) > MAX_VALUES:
            raise UnusableFile(f"bands of more than {MAX_VALUES} values together")
        first, last = (f"{each.shape[0]} x {each.shape[1]}" for each in (images[0], images[-1]))
        if first != last:
            raise UnusableFile(f"band {name}: {last} pixels, the first band has {first}")
    return np.concatenate(images, axis=-1), None


def _read_band(name: str, path: Path | None, selection: Selection) -> np.ndarray:
    if path is None:
        raise UnusableFile(f"no file of the band {name}")
    try:
        image, _ = read_image(path, None, selection)
    except UnusableFile as error:
        raise UnusableFile(f"band {name}: {error}") from error
    if image.shape[-1] != 1:
        raise UnusableFile(f"band {name}: {image.shape[-1]} bands in its file")
    return image


def image_count(path: Path, selection: Selection) -> int | None:
    """Return the number of images in a stack, None for a file that is one image or unusable."""
    may_be = (".h5", ".hdf5", ".npy") if selection.stacks else (".h5", ".hdf5")
    if not path.name.lower().endswith(may_be):
        return None
    try:
        size = _file_size(path, MAX_STACK_FILE_BYTES)
        with path.open("rb", buffering=0) as stream:
            known = format_of(stream.read(FIRST_BYTES))
        return known.count(path, size, selection) if known.count else None
    except (OSError, UnusableFile):
        return None


def _file_size(path: Path, most: int) -> int:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnusableFile("a broken link" if path.is_symlink() else "no such file") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
        raise UnusableFile("not a regular file")
    if status.st_size > most:
        limit = byte_text(most)
        raise UnusableFile(f"a file of {byte_text(status.st_size)}, at most {limit} are read")
    if not status.st_size:
        raise UnusableFile("empty file")
    return status.st_size
