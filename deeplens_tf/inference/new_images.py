"""Images without a split, as a model takes them, a batch at a time."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deeplens_tf.data.band_files import with_bands
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.catalog import PLACES, ROLES, CatalogRequest
from deeplens_tf.data.catalog_folders import scan_catalog
from deeplens_tf.data.folders import SourceFile, SourceFolder, scan_unlabelled
from deeplens_tf.data.header_scales import stated_scale
from deeplens_tf.data.image_files import read_source
from deeplens_tf.data.image_sizes import ImageSizes
from deeplens_tf.data.manifest import SPLITS, is_prepared
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.passed_over import passed_over_text
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.rejects import RejectedFiles
from deeplens_tf.data.source_folders import texts_of
from deeplens_tf.data.stacks import with_rows
from deeplens_tf.data.summary import missing_rows
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.probes.outputs import BATCH_SIZE
from deeplens_tf.terminal import counted, print_lines


class Batch(NamedTuple):
    """Images with their names.

    Attributes:
        files: of each image, relative to the folder.
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
    """The images of a folder, or of one that `prepare` wrote.

    Attributes:
        folder: the folder.
        preprocessing: of the images, for the model.
        mixed_sizes: whether images may have different sizes where resizing them gives them
            different pixel scales.
        catalog: the table of the images; None for every image in the folder.
        selection: which part of a file is its image.
        count: number of files to read, spread evenly over all; None for all.
        nan_filled: counts "images" with NaN pixels that were filled, and these "pixels".
    """

    folder: Path
    preprocessing: Preprocessing
    mixed_sizes: bool = False
    catalog: CatalogRequest | None = None
    selection: Selection = field(default_factory=Selection)
    count: int | None = None
    nan_filled: Counter[str] = field(default_factory=Counter, compare=False)

    def batches(self, rejected: RejectedFiles) -> Iterator[Batch]:
        """Yield every usable image once; files that cannot be used go to `rejected`.

        Raises:
            RequestError: a prepared folder has other images than the model takes.
            DataError: a prepared folder is damaged, or images differ in size.
        """
        return self._prepared(rejected) if is_prepared(self.folder) else self._raw(rejected)

    def with_progress(self, rejected: RejectedFiles) -> Iterator[Batch]:
        """Yield the batches that contain images, with a progress bar on a terminal."""
        with tqdm(unit="image", disable=None) as bar:
            for batch in self.batches(rejected):
                bar.total = rejected.total
                if batch.files:
                    yield batch
                bar.update(batch.read)

    def _raw(self, rejected: RejectedFiles) -> Iterator[Batch]:
        folder = self._listed()
        if text := passed_over_text(folder.passed_over):
            print_lines(f"{self.folder}: {text}")
        files = [folder.files[i] for i in spread(len(folder.files), self.count)]
        rejected.total = len(files)
        how = self.preprocessing
        sizes = ImageSizes(how.image_size, how.fit, remedy="give --mixed-sizes to use all")
        if how.source_side and not how.pixel_scale_arcsec:
            sizes.check((how.source_side, how.source_side), "an image of the training")
        for start in range(0, len(files), BATCH_SIZE):
            part = files[start : start + BATCH_SIZE]
            found = {file.name: self.image(file, rejected, sizes) for file in part}
            usable = {name: image for name, image in found.items() if image is not None}
            images = np.stack([*usable.values()]) if usable else np.empty(0, np.float32)
            yield Batch([*usable], _places(folder, usable), images, len(part))

    def _listed(self) -> SourceFolder:
        """Return the images of the folder, or those that the catalogue names."""
        if self.catalog is None or self.catalog.path is None:
            scanned = with_bands(scan_unlabelled(self.folder), self.selection)
            return with_rows(scanned, self.selection)
        path, how = self.catalog.path, self.selection
        folder = scan_catalog(self.folder, path, self.catalog, how)["train"]
        print_lines(*(f"{self.folder}: {line}" for line in _catalog_lines(folder)))
        return folder

    def image(
        self, file: SourceFile, rejected: RejectedFiles, sizes: ImageSizes | None = None
    ) -> NDArray[np.float32] | None:
        """Return one image as the model takes it; None if it cannot be used.

        Args:
            file: of the image.
            rejected: gets the reason.
            sizes: compares the image with others.
        """
        how = self.preprocessing
        try:
            bands = how.bands + len(how.bands_left_out)
            image, _ = read_source(file, bands, self.selection)
            how = how.for_stated(stated_scale(file, self.selection))
            # Where the pixel scales are known, `apply` compares them.
            known = how.pixel_scale_arcsec and how.source_scale_arcsec
            if sizes and not (self.mixed_sizes or known):
                sizes.check(image.shape, file.name)
            prepared = how.apply([image])[0]
            if pixels := how.nan_pixels(image):
                self.nan_filled.update(images=1, pixels=pixels)
            return prepared
        except DataError:  # of the sizes; it is a `ValueError` too
            raise
        except ValueError as error:  # an `UnusableFile` is one
            rejected.add(file.name, str(error).removeprefix("images[0] cannot be used: "))
            return None

    def _prepared(self, rejected: RejectedFiles) -> Iterator[Batch]:
        bands = self.preprocessing.image_shape[2] if self.preprocessing.repeat > 1 else None
        data = open_folder(self.folder, bands=bands)
        require_same_preprocessing(self.preprocessing, data, "the model")
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


def places_request(
    catalog: str | Path | None, columns: Mapping[str, str | None] | None
) -> CatalogRequest | None:
    """Return the request for the part of a catalogue that is used here: files and places.

    Raises:
        RequestError: columns without a catalogue, or for no role of a column.
    """
    if catalog is None:
        if columns:
            raise RequestError("catalog_columns: of no use without a catalogue")
        return None
    CatalogRequest.of(catalog, columns)  # refuses names that are no roles
    used = ("file", "row", "pixel_scale", *PLACES)
    unread = {role: None for role in ROLES if role not in used}
    given = {role: name for role, name in (columns or {}).items() if role in used}
    return CatalogRequest.of(catalog, {**unread, **given})


def _places(folder: SourceFolder, names: Collection[str]) -> dict[str, list[str]]:
    columns = [name for name in PLACES if folder.catalog and name in folder.catalog.kept]
    rows = [texts_of(folder, name, columns) for name in names]
    return {column: [row[i] for row in rows] for i, column in enumerate(columns)}


def _catalog_lines(folder: SourceFolder) -> list[str]:
    """Return how many rows and files of a catalogue have no image and no row."""
    if folder.catalog is None:
        return []
    table, without = folder.catalog.path.name, folder.strays
    first = f"{counted(len(without), 'image')} without a row in {table}" if without else ""
    lines = [f"{first}, the first: {without[0]}: left out"] if without else []
    return missing_rows(folder.catalog.facts()) + lines
