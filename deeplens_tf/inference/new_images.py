"""Images without a split, as a model takes them, a batch at a time."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deeplens_tf.data.band_files import with_bands
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.catalog import PLACES
from deeplens_tf.data.catalog_folders import scan_catalog
from deeplens_tf.data.catalog_rows import is_number
from deeplens_tf.data.folders import SourceFile, SourceFolder, scan_unlabelled
from deeplens_tf.data.image_sizes import ImageSizes
from deeplens_tf.data.manifest import MANIFEST_FILE, SPLITS, is_prepared
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.passed_over import passed_over_text
from deeplens_tf.data.prepared_data import PreparedData, open_folder
from deeplens_tf.data.source_folders import texts_of
from deeplens_tf.data.stacks import with_rows
from deeplens_tf.data.summary import missing_rows
from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.shipped import sha256_of
from deeplens_tf.inference.given_images import GivenImages, home_of, images_of
from deeplens_tf.inference.reading import Reading
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.probes.outputs import BATCH_SIZE
from deeplens_tf.terminal import counted, print_lines


class Batch(NamedTuple):
    """Images that were read, with those that cannot be used.

    Attributes:
        listed: name of each image, relative to the folder, or as the caller named it.
        places: what a catalogue says of each in its columns id, ra and dec, as text.
        reasons: why images cannot be used, by their names.
        images: those that can be used, shape (batch, height, width, bands), float32 in [0, 1].
    """

    listed: list[str]
    places: dict[str, list[str]]
    reasons: dict[str, str]
    images: NDArray[np.float32]

    @property
    def files(self) -> list[str]:
        """Names of the images that can be used."""
        return [name for name in self.listed if name not in self.reasons]

    @property
    def usable_places(self) -> dict[str, list[str]]:
        """The `places` of the images that can be used."""
        usable = [name not in self.reasons for name in self.listed]
        return {column: [*compress(values, usable)] for column, values in self.places.items()}


@dataclass(frozen=True)
class NewImages:
    """The images that a caller names, or those of a folder that `prepare` wrote.

    Attributes:
        given: which images.
        readings: how those in each of its `places` are read.
        mixed_sizes: whether images may have different sizes where resizing them gives them
            different pixel scales.
        nan_filled: counts "images" with NaN pixels that were filled, and these "pixels".
    """

    given: GivenImages
    readings: Mapping[Path, Reading]
    mixed_sizes: bool = False
    nan_filled: Counter[str] = field(default_factory=Counter, compare=False)

    @property
    def selection(self) -> Selection:
        """Which part of a file is its image; of the first place if they differ."""
        return next(iter(self.readings.values())).selection

    @property
    def count(self) -> int:
        """Number of the images, with those that cannot be used."""
        if self._stored is not None:
            return sum(map(self._stored.count, SPLITS))
        return len(self._listed[0].files)

    def names(self, block: range) -> list[str]:
        """Return the names of some images, by their places in the list."""
        if self._stored is None:
            return [file.name for file in self._listed[0].files[block.start : block.stop]]
        found = [name for split in SPLITS for name in _stored_names(self._stored, split)]
        return found[block.start : block.stop]

    @cached_property
    def sizes(self) -> ImageSizes | None:
        """What compares the sizes of images, also with those of the training; None for nothing."""
        if self.mixed_sizes or self._stored is not None:
            return None
        how = next(iter(self.readings.values())).preprocessing
        sizes = ImageSizes(how.image_size, how.fit, remedy="give --mixed-sizes to use all")
        if how.source_side and not how.pixel_scale_arcsec:
            sizes.check((how.source_side, how.source_side), "an image of the training")
        return sizes

    @property
    def place_columns(self) -> list[str]:
        """Those of the columns id, ra and dec that a catalogue has."""
        if self._stored is not None:
            return [name for name in PLACES if name in self._stored.catalog_units]
        return _place_columns(self._listed[0])

    def number_columns(self) -> list[str]:
        """Return which of the columns ra and dec of a catalogue have numbers for all images."""
        return [
            name
            for name in self.place_columns
            if name != "id" and all(map(is_number, self._texts(name)))
        ]

    def digest(self, block: range) -> str:
        """Return a digest of some images: of their names, and of size and time of their files."""
        if self._stored is not None:
            return sha256_of(self.given.root / MANIFEST_FILE)
        found = hashlib.sha256()
        folder, _ = self._listed
        for file in folder.files[block.start : block.stop]:
            row = (file.name, file.row_scale_arcsec, [*_states(file)])
            found.update(repr(row).encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def batches(self, block: range | None = None) -> Iterator[Batch]:
        """Yield each image once, in the order of the list.

        Args:
            block: places of the images in the list; None for all.

        Raises:
            RequestError: a prepared folder has other images than the model takes.
            DataError: a prepared folder is damaged, or images differ in size.
        """
        block = range(self.count) if block is None else block
        return self._raw(block) if self._stored is None else self._prepared(self._stored, block)

    def with_progress(self, block: range | None = None, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of a block but its first `done` images, with a bar on a terminal."""
        block = range(self.count) if block is None else block
        with tqdm(unit="image", disable=None, total=len(block), initial=done) as bar:
            for batch in self.batches(block[done:]):
                yield batch
                bar.update(len(batch.listed))

    def _raw(self, block: range) -> Iterator[Batch]:
        folder, readings = self._listed
        for start in block[::BATCH_SIZE]:
            part = slice(start, min(start + BATCH_SIZE, block.stop))
            files, reasons = folder.files[part], dict[str, str]()
            found = [
                self._image(file, how, reasons)
                for file, how in zip(files, readings[part], strict=True)
            ]
            usable = [image for image in found if image is not None]
            images = np.stack(usable) if usable else np.empty(0, np.float32)
            names = [file.name for file in files]
            yield Batch(names, _places(folder, names), reasons, images)

    @cached_property
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
        """Return the images of the paths, in their order."""
        alike: dict[Reading, list[SourceFile]] = {}
        order = dict[str, int]()
        for number, path in enumerate(self.given.paths):
            files = [*images_of(path)]
            alike.setdefault(self.readings[home_of(path)], []).extend(files)
            for file in files:
                order.setdefault(file.name, number)
        found: dict[str, tuple[SourceFile, Reading]] = {}
        count = 0
        for reading, files in alike.items():
            folder = with_bands(SourceFolder(Path(), (), tuple(files)), reading.selection)
            for file in with_rows(folder, reading.selection).files:
                found.setdefault(file.name, (file, reading))
                count += 1
        if again := count - len(found):
            print_lines(f"{counted(again, 'image')} named more than once: each is used once")
        ordered = sorted(found.values(), key=lambda each: _place_in(order, each[0]))
        files_and_readings = [*zip(*ordered, strict=True)] or [(), ()]
        return SourceFolder(Path(), (), files_and_readings[0]), files_and_readings[1]

    def _image(
        self, file: SourceFile, reading: Reading, reasons: dict[str, str]
    ) -> NDArray[np.float32] | None:
        """Return one image as the model takes it; None if it cannot be used."""
        try:
            image, filled = reading.image(file, self.sizes)
        except UnusableFile as error:
            reasons[file.name] = str(error)
            return None
        if filled:
            self.nan_filled.update(images=1, pixels=filled)
        return image

    @cached_property
    def _stored(self) -> PreparedData | None:
        """The images that `prepare` has written; None for others."""
        if self.given.folder is None or not is_prepared(self.given.folder):
            return None
        (reading,) = self.readings.values()
        how = reading.preprocessing
        data = open_folder(self.given.root, bands=how.image_shape[2] if how.repeat > 1 else None)
        require_same_preprocessing(how, data, "the model")
        return data

    def _prepared(self, data: PreparedData, block: range) -> Iterator[Batch]:
        columns, first = self.place_columns, 0
        for split in SPLITS:
            count = data.count(split)
            start, stop = (min(max(end - first, 0), count) for end in (block.start, block.stop))
            first += count
            if start < stop:
                yield from _split_batches(data, split, columns, range(start, stop))

    def _texts(self, column: str) -> Iterable[str]:
        """Return what a catalogue says of all images in one of its columns."""
        if self._stored is not None:
            splits = [split for split in SPLITS if self._stored.count(split)]
            return chain(*(self._stored.catalog(split, [column])[column] for split in splits))
        folder, _ = self._listed
        return (texts_of(folder, file.name, [column])[0] for file in folder.files)


def _split_batches(
    data: PreparedData, split: str, columns: list[str], block: range
) -> Iterator[Batch]:
    texts = data.catalog(split, columns)
    files = _stored_names(data, split)
    keep = np.zeros(len(files), bool)
    keep[block.start : block.stop] = True
    start = block.start
    for images in image_batches(data, split, BATCH_SIZE, keep).as_numpy_iterator():
        part = slice(start, start + len(images))
        places = {name: texts[name][part].tolist() for name in columns}
        yield Batch(files[part], places, {}, images)
        start = part.stop


def _stored_names(data: PreparedData, split: str) -> list[str]:
    files: list[str] = data.index(split)["file"].tolist() if data.count(split) else []
    # The names of test images may repeat those of the other splits.
    return [f"test/{file}" for file in files] if split == "test" else files


def _place_in(order: Mapping[str, int], file: SourceFile) -> int:
    """Return the first place of the files of an image, which may be a row of one, or several."""
    names = (file.name, file.file_name, *file.sources)
    return min(order[name] for name in names if name in order)


def _states(file: SourceFile) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of the last change of each file of an image that is there."""
    for name, path in file.sources.items():
        with contextlib.suppress(OSError):
            state = path.stat()
            yield name, state.st_size, state.st_mtime_ns


def _places(folder: SourceFolder, names: Collection[str]) -> dict[str, list[str]]:
    columns = _place_columns(folder)
    rows = [texts_of(folder, name, columns) for name in names]
    return {column: [row[i] for row in rows] for i, column in enumerate(columns)}


def _place_columns(folder: SourceFolder) -> list[str]:
    return [name for name in PLACES if folder.catalog and name in folder.catalog.kept]


def _catalog_lines(folder: SourceFolder, with_strays: bool) -> list[str]:
    """Return how many rows of a catalogue have no image, and how many images no row."""
    if folder.catalog is None:
        return []
    table, without = folder.catalog.path.name, folder.strays if with_strays else ()
    first = f"{counted(len(without), 'image')} without a row in {table}" if without else ""
    lines = [f"{first}, the first: {without[0]}: left out"] if without else []
    return missing_rows(folder.catalog.facts()) + lines
