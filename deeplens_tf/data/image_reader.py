"""From the files of source folders to examples of one shape, each with its split."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from deeplens_tf.data.folders import SourceFile, SourceFolder
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.manifest import PreparationSettings
from deeplens_tf.data.mass_tables import read_masses, resolve_mass
from deeplens_tf.data.rejects import RejectedFiles
from deeplens_tf.preprocessing.scaling import scale_with_margin
from deeplens_tf.data.shards import Example
from deeplens_tf.data.splitting import SplitAssigner, shuffled
from deeplens_tf.errors import DataError, UnusableFile

Folders = dict[str, SourceFolder]  # "train", and "test" if there is a test folder


class ImageReader:
    """Reads the images of source folders; files that cannot be used go to `rejected`.

    Args:
        rejected: collects the files that are left out.
        settings: size and fit of the images, split and order of the examples.
        mass_required: class folders in which every file must have a mass.
    """

    def __init__(
        self,
        rejected: RejectedFiles,
        settings: PreparationSettings,
        mass_required: Collection[Path] = (),
    ) -> None:
        self.rejected, self.settings, self.mass_required = rejected, settings, mass_required
        self.bands = 0
        self._first_name = ""  # the file that set the number of bands
        self._with_mass: set[Path] = set()  # class folders
        self._without_mass: set[Path] = set()
        self._tables: dict[Path, dict[str, str] | None] = {}

    def read_splits(
        self, folders: Folders, advance: Callable[[], object]
    ) -> Iterator[tuple[str, Example]]:
        """Read every file once; yield the name of its split and its example.

        Args:
            folders: the source folder as "train", the test folder as "test".
            advance: called after each file.

        Raises:
            DataError: the images do not all have the same number of bands.
        """
        for split, folder in folders.items():
            assigner = SplitAssigner(folder.files, self.settings.validation_fraction)
            for file in shuffled(folder.files, self.settings.seed):
                if example := self._read(file, shown_name(split, folder, file.name)):
                    yield split if split == "test" else assigner.assign(file.label), example
                advance()

    def folders_missing_masses(self) -> set[Path]:
        """Return the class folders in which some files have a mass and some do not."""
        return self._with_mass & self._without_mass

    def _read(self, file: SourceFile, name: str) -> Example | None:
        try:
            image, file_mass_ev = read_image(file.path)
            mass_ev = self._mass_ev(file, file_mass_ev)
            content = content_digest(image)
            image = scale_with_margin(image, self.settings.image_size, self.settings.fit)
        except UnusableFile as error:
            self.rejected.add(name, str(error))
            return None
        self._check_bands(image.shape[-1], name)
        return Example(image, file.label, mass_ev, file.name, content)

    def _mass_ev(self, file: SourceFile, file_mass_ev: float | None) -> float:
        folder = file.path.parent
        if folder not in self._tables:
            self._tables[folder] = read_masses(folder)
        required = folder in self.mass_required
        mass_ev = resolve_mass(file.path.name, file_mass_ev, self._tables[folder], required)
        if file.label >= 0:
            (self._without_mass if math.isnan(mass_ev) else self._with_mass).add(folder)
        return mass_ev

    def _check_bands(self, bands: int, name: str) -> None:
        if not self.bands:
            self.bands, self._first_name = bands, name
        if bands != self.bands:
            raise DataError(
                f"bands differ: {self._first_name} has {self.bands}, {name} has {bands}"
            )


def content_digest(image: np.ndarray) -> bytes:
    """Return the SHA-256 of an image as the file contains it, before resizing and scaling."""
    digest = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def shown_name(split: str, folder: SourceFolder, name: str) -> str:
    """Return the path of a file relative to the source folder."""
    return f"../{folder.root.name}/{name}" if split == "test" else name
