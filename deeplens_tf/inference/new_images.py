"""Images without a split, as a model takes them, a batch at a time."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deeplens_tf.data.band_files import with_bands
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.catalog import PLACES
from deeplens_tf.data.catalog_folders import scan_catalog
from deeplens_tf.data.folders import SourceFile, SourceFolder, scan_unlabelled
from deeplens_tf.data.image_sizes import ImageSizes
from deeplens_tf.data.manifest import SPLITS, is_prepared
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.passed_over import passed_over_text
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.rejects import RejectedFiles
from deeplens_tf.data.source_folders import texts_of
from deeplens_tf.data.stacks import with_rows
from deeplens_tf.data.summary import missing_rows
from deeplens_tf.errors import UnusableFile
from deeplens_tf.inference.given_images import GivenImages, home_of, images_of
from deeplens_tf.inference.reading import Reading
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.probes.outputs import BATCH_SIZE
from deeplens_tf.terminal import counted, print_lines


class Batch(NamedTuple):
    """Images with their names.

    Attributes:
        files: of each image, relative to the folder, or as the caller named them.
        places: what a catalogue says of them in its columns id, ra and dec, as text.
        images: shape (batch, height, width, bands), float32 in [0, 1].
        read: number of files that were read for them, with those that cannot be used.
    """

    files: list[str]
    places: dict[str, list[str]]
    images: NDArray[np.float32]
    read: int


@dataclass(frozen=True)
class NewImages:
    """The images that a caller names, or those of a folder that `prepare` wrote.

    Attributes:
        given: which images.
        readings: how those in each of its `places` are read.
        mixed_sizes: whether images may have different sizes where resizing them gives them
            different pixel scales.
        count: number of files to read, spread evenly over all; None for all.
        nan_filled: counts "images" with NaN pixels that were filled, and these "pixels".
    """

    given: GivenImages
    readings: Mapping[Path, Reading]
    mixed_sizes: bool = False
    count: int | None = None
    nan_filled: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def selection(self) -> Selection:
        """Which part of a file is its image; of the first place if they differ."""
        return next(iter(self.readings.values())).selection

    def batches(self, rejected: RejectedFiles) -> Iterator[Batch]:
        """Yield every usable image once; files that cannot be used go to `rejected`.

        Raises:
            RequestError: a prepared folder has other images than the model takes.
            DataError: a prepared folder is damaged, or images differ in size.
        """
        is_stored = self.given.folder is not None and is_prepared(self.given.folder)
        return self._prepared(rejected) if is_stored else self._raw(rejected)

    def with_progress(self, rejected: RejectedFiles) -> Iterator[Batch]:
        """Yield the batches that contain images, with a progress bar on a terminal."""
        with tqdm(unit="image", disable=None) as bar:
            for batch in self.batches(rejected):
                bar.total = rejected.total
                if batch.files:
                    yield batch
                bar.update(batch.read)

    def _raw(self, rejected: RejectedFiles) -> Iterator[Batch]:
        folder, readings = self._listed()
        rows = spread(len(folder.files), self.count)
        rejected.total = len(rows)
        sizes = self._sizes()
        for start in range(0, len(rows), BATCH_SIZE):
            part = rows[start : start + BATCH_SIZE]
            pairs = ((folder.files[row], readings[row]) for row in part)
            found = {file.name: self._image(file, how, rejected, sizes) for file, how in pairs}
            usable = {name: image for name, image in found.items() if image is not None}
            images = np.stack([*usable.values()]) if usable else np.empty(0, np.float32)
            yield Batch([*usable], _places(folder, usable), images, len(part))

    def _sizes(self) -> ImageSizes | None:
        """Return what compares the sizes of images, also with those of the training."""
        if self.mixed_sizes:
            return None
        how = next(iter(self.readings.values())).preprocessing
        sizes = ImageSizes(how.image_size, how.fit, remedy="give --mixed-sizes to use all")
        if how.source_side and not how.pixel_scale_arcsec:
            sizes.check((how.source_side, how.source_side), "an image of the training")
        return sizes

    def _listed(self) -> tuple[SourceFolder, Sequence[Reading]]:
        """Return the files of the images, and how each of them is read."""
        if self.given.folder is None:
            return self._of_paths()
        (reading,) = self.readings.values()
        found = self._of_folder(self.given.root, reading.selection)
        return found, [reading] * len(found.files)

    def _of_folder(self, root: Path, selection: Selection) -> SourceFolder:
        """Return the images of a folder, or those that the catalogue names."""
        request, is_alone = self.given.catalog, self.given.is_catalog_alone
        if request is None or request.path is None:
            folder = with_rows(with_bands(scan_unlabelled(root), selection), selection)
        else:
            folder = scan_catalog(root, request.path, request, selection)["train"]
            lines = _catalog_lines(folder, with_strays=not is_alone)
            print_lines(*(f"{root}: {line}" for line in lines))
        if (text := passed_over_text(folder.passed_over)) and not is_alone:
            print_lines(f"{root}: {text}")
        return folder

    def _of_paths(self) -> tuple[SourceFolder, Sequence[Reading]]:
        """Return the images of the paths, in their order; those that are read alike together."""
        alike: dict[Reading, list[SourceFile]] = {}
        for path in self.given.paths:
            alike.setdefault(self.readings[home_of(path)], []).extend(images_of(path))
        found: dict[str, tuple[SourceFile, Reading]] = {}
        count = 0
        for reading, files in alike.items():
            folder = with_bands(SourceFolder(Path(), (), tuple(files)), reading.selection)
            for file in with_rows(folder, reading.selection).files:
                found.setdefault(file.name, (file, reading))
                count += 1
        if again := count - len(found):
            print_lines(f"{counted(again, 'image')} named more than once: each is used once")
        files_and_readings = [*zip(*found.values(), strict=True)] or [(), ()]
        return SourceFolder(Path(), (), files_and_readings[0]), files_and_readings[1]

    def _image(
        self,
        file: SourceFile,
        reading: Reading,
        rejected: RejectedFiles,
        sizes: ImageSizes | None,
    ) -> NDArray[np.float32] | None:
        """Return one image as the model takes it; None if it cannot be used."""
        try:
            image, filled = reading.image(file, sizes)
        except UnusableFile as error:
            rejected.add(file.name, str(error))
            return None
        if filled:
            self.nan_filled.update(images=1, pixels=filled)
        return image

    def _prepared(self, rejected: RejectedFiles) -> Iterator[Batch]:
        (reading,) = self.readings.values()
        how = reading.preprocessing
        data = open_folder(self.given.root, bands=how.image_shape[2] if how.repeat > 1 else None)
        require_same_preprocessing(how, data, "the model")
        counts = {split: data.count(split) for split in SPLITS if data.count(split)}
        chosen = np.zeros(sum(counts.values()), bool)
        chosen[spread(len(chosen), self.count)] = True
        rejected.total = int(chosen.sum())
        columns = [name for name in PLACES if name in data.catalog_units]
        parts = np.split(chosen, np.cumsum([*counts.values()])[:-1])
        for split, keep in zip(counts, parts, strict=True):
            if not keep.any():
                continue
            texts = {name: values[keep] for name, values in data.catalog(split, columns).items()}
            files = data.index(split)["file"][keep].tolist()
            if split == "test":  # its names may repeat those of the other splits
                files = [f"test/{file}" for file in files]
            start, used = 0, None if keep.all() else keep
            for images in image_batches(data, split, BATCH_SIZE, used).as_numpy_iterator():
                end = start + len(images)
                places = {name: texts[name][start:end].tolist() for name in columns}
                yield Batch(files[start:end], places, images, len(images))
                start = end


def spread(total: int, count: int | None) -> list[int]:
    """Return which of `total` files are read: evenly, the first and the last among them."""
    if count is None or count >= total:
        return list(range(total))
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def _places(folder: SourceFolder, names: Collection[str]) -> dict[str, list[str]]:
    columns = [name for name in PLACES if folder.catalog and name in folder.catalog.kept]
    rows = [texts_of(folder, name, columns) for name in names]
    return {column: [row[i] for row in rows] for i, column in enumerate(columns)}


def _catalog_lines(folder: SourceFolder, with_strays: bool) -> list[str]:
    """Return how many rows of a catalogue have no image, and how many images no row."""
    if folder.catalog is None:
        return []
    table, without = folder.catalog.path.name, folder.strays if with_strays else ()
    first = f"{counted(len(without), 'image')} without a row in {table}" if without else ""
    lines = [f"{first}, the first: {without[0]}: left out"] if without else []
    return missing_rows(folder.catalog.facts()) + lines
