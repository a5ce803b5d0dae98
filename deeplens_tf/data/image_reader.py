"""From the files of source folders to examples in one form, each with the split it goes to.

A file is read once. In an order that depends on its name and the seed alone, a class's first usable
image goes to training, the next ones to validation until its share is full, the others to training:
so whatever is rejected, no class is missing from validation that could be in it.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from deeplens_tf.data.folders import SourceFile, SourceFolder
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.mass_tables import read_masses, resolve_mass
from deeplens_tf.data.rejects import Rejects
from deeplens_tf.data.scaling import resize_and_scale
from deeplens_tf.data.shards import Example
from deeplens_tf.data.splitting import SplitSorter, shuffled
from deeplens_tf.errors import DataError, UnusableFile


class ImageReader:
    """Reads the images of source folders in one form; what cannot be used goes to `rejects`.

    Args:
        rejects: takes the files left out.
        image_size: side of the images in pixels.
        fit: "resize" or "crop".
        weighed: class folders in which every file must carry a mass.
    """

    def __init__(
        self, rejects: Rejects, image_size: int, fit: str, mass_required: Collection[Path] = ()
    ) -> None:
        self.rejects, self.image_size, self.fit = rejects, image_size, fit
        self.mass_required = mass_required
        self.image_shape: tuple[int, ...] = ()
        self._folders: dict[bool, set[Path]] = {True: set(), False: set()}  # with a mass, without
        self._shape_from = ""  # the file that settled the number of bands
        self._tables: dict[Path, dict[str, str] | None] = {}

    def read(self, file: SourceFile, shown_name: str) -> Example | None:
        """Return one image, or None where it is rejected.

        Raises:
            DataError: it has another number of bands than those before it.
        """
        try:
            image, file_mass_ev = read_image(file.path)
            mass_ev = self._mass_ev(file, file_mass_ev)
            content = content_digest(image)
            image = resize_and_scale(image, self.image_size, self.fit)
        except UnusableFile as error:
            self.rejects.add(shown_name, str(error))
            return None
        self._check_bands(image, shown_name)
        return Example(image, file.label, mass_ev, file.name, content)

    def folders_missing_masses(self) -> set[Path]:
        """Return the class folders of which some files carry a mass and some do not."""
        return self._folders[True] & self._folders[False]

    def _mass_ev(self, file: SourceFile, file_mass_ev: float | None) -> float:
        folder = file.path.parent
        table, required = self._table(folder), folder in self.mass_required
        mass_ev = resolve_mass(file.path.name, file_mass_ev, table, required)
        if file.label >= 0:
            self._folders[math.isfinite(mass_ev)].add(folder)
        return mass_ev

    def _table(self, folder: Path) -> dict[str, str] | None:
        if folder not in self._tables:
            self._tables[folder] = read_masses(folder)
        return self._tables[folder]

    def _check_bands(self, image: np.ndarray, name: str) -> None:
        if not self.image_shape:
            self.image_shape, self._shape_from = image.shape, name
        if image.shape != self.image_shape:
            raise DataError(
                f"bands differ: {self._shape_from} has {self.image_shape[-1]}, "
                f"{name} has {image.shape[-1]}"
            )


def content_digest(image: np.ndarray) -> bytes:
    """Return the SHA-256 of an image as the file holds it, before it is brought to one form."""
    digest = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
    digest.update(np.ascontiguousarray(image))
    return digest.digest()


def training_examples(
    folder: SourceFolder,
    reader: ImageReader,
    validation_fraction: float,
    seed: int,
    step: Callable[[], object],
) -> Iterator[tuple[str, Example]]:
    """Read a folder's images; yield each one's split, train or validation, and its example."""
    sorter = SplitSorter(folder.files, validation_fraction)
    for file in shuffled(folder.files, seed):
        if example := reader.read(file, file.name):
            yield sorter.place(file.label), example
        step()


def test_examples(
    folder: SourceFolder, reader: ImageReader, seed: int, step: Callable[[], object]
) -> Iterator[tuple[str, Example]]:
    """Read a test folder's images; yield the split's name and each example."""
    for file in shuffled(folder.files, seed):
        if example := reader.read(file, name_beside(folder, file.name)):
            yield "test", example
        step()


def name_beside(folder: SourceFolder, name: str) -> str:
    """Return how a file of the test folder is called, seen from the source folder."""
    return f"../{folder.root.name}/{name}"
