"""A prepared folder, opened: from shards to shuffled examples, and what a run records of it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from deeplens_tf.augment import without_margin
from deeplens_tf.config import Config
from deeplens_tf.data.catalog_texts import read_texts
from deeplens_tf.data.folder_settings import preparation_arguments
from deeplens_tf.data.held_split import HeldSplit, read_split
from deeplens_tf.data.image_data import CHUNK, WHOLE, Example, ImageData, Share
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import PREPARE_AGAIN, Manifest
from deeplens_tf.data.objects import Objects
from deeplens_tf.data.pair_order import in_shard_order
from deeplens_tf.data.preparing import ensure_prepared
from deeplens_tf.data.rejects import REJECTED_FILE, left_out_counts
from deeplens_tf.data.shards import (
    image_bytes_of,
    parse_example,
    parse_index,
)
from deeplens_tf.data.whole_numbers import is_whole
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.value_scale import ValueScale
from deeplens_tf.terminal import print_lines

# An epoch is shuffled in blocks of this size, in addition to the random order of the shards.
SHUFFLE_BYTES = 2**28
# Images of this size take no more memory than such a block of records, which streaming holds.
HELD_BYTES = 2**28
HELD_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class PreparedData(ImageData):
    """A prepared folder, opened.

    Attributes:
        folder: with the shards.
        manifest: of the folder.
        bands: of the images in a batch; a grey image is repeated.
        seed: decides the order of the images in each epoch.
        share: part of every batch that this process provides.
        held: splits whose images are in memory, by name; see `in_memory`.
        objects_read: objects of the splits whose table was read, by name; see `objects`.
    """

    folder: Path
    manifest: Manifest
    bands: int
    seed: int
    share: Share = WHOLE
    held: Mapping[str, HeldSplit] = field(default_factory=dict, compare=False, repr=False)
    objects_read: dict[str, Objects] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images in a batch."""
        height, width, _ = self.manifest.image_shape
        return height, width, self.bands

    @property
    def margin(self) -> int:
        """Width in pixels of the margin around each image in the shards; 0 for none."""
        return self.manifest.margin

    @property
    def lacks_margin(self) -> bool:
        """Whether an earlier version cropped the images and kept nothing around them."""
        return self.manifest.settings.get("fit") == "crop" and not self.margin

    @property
    def preprocessing(self) -> Preprocessing:
        """How a file's pixels become those of the images in a batch."""
        manifest, settings = self.manifest, self.manifest.settings
        bands = manifest.image_shape[2]
        resampled = settings.get("resample_to_arcsec") is not None
        source_scale = settings.get("pixel_scale_arcsec")
        return Preprocessing(
            image_size=manifest.image_shape[0],
            fit=settings["fit"],
            bands=bands,
            scaling=manifest.scale,
            repeat=self.bands // bands,
            bands_left_out=manifest.bands_left_out,
            band_names=manifest.band_names,
            pixel_scale_arcsec=manifest.pixel_scale_arcsec,
            source_scale_arcsec=manifest.resampled_from_arcsec if resampled else source_scale,
            source_side=manifest.source_side,
            resampled=resampled,
            selection=manifest.selection,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order; empty for unlabelled data."""
        return self.manifest.classes

    def count(self, split: str) -> int:
        """Return the number of images in a split; 0 if there is no such split."""
        return self.manifest.splits[split].count if split in self.manifest.splits else 0

    def require_test_images_kept(self) -> None:
        """Refuse to score data whose test folder was left out, rather than score other images.

        Raises:
            DataError: the preparation left out every image of the test folder.
        """
        if "test" in self.manifest.splits and not self.count("test"):
            counts = left_out_counts(self.manifest.left_out, self.manifest.duplicates)
            raise DataError(
                f"{self.folder}: every image of the test folder was left out ({counts}), see "
                f"{self.folder / REJECTED_FILE}: give other test images, or remove their folder"
            )

    def index(self, split: str) -> pd.DataFrame:
        """Return the table of a split: index, file, label, mass_ev, content, object."""
        return read_index(self.folder, split, self.count(split))

    @property
    def catalog_units(self) -> Mapping[str, str]:
        """Columns that a catalogue adds to the images, with their units; "" for none."""
        return self.manifest.catalog.units if self.manifest.catalog else {}

    def catalog(self, split: str, columns: Sequence[str]) -> pd.DataFrame:
        """Return what a catalogue says of the images of a split in some of its kept columns."""
        return read_texts(self.folder, split, self.count(split), columns)

    def objects(self, split: str) -> Objects:
        """Return the objects of a split, each with its images next to each other in one shard.

        The table of a split is read once for all of its uses.

        Raises:
            DataError: they are not stored so, as every preparation stores them.
        """
        if split not in self.objects_read:
            self.objects_read[split] = self._adjacent_objects(split)
        return self.objects_read[split]

    def _adjacent_objects(self, split: str) -> Objects:
        found = super().objects(split)
        ends = np.cumsum(self._shard_counts(split))
        adjacent = np.array_equal(found.members, np.arange(len(found.members)))
        if not adjacent or not np.isin(ends[ends < len(found.members)], found.starts).all():
            raise DataError(
                f"{self.folder}: the images of an object of the {split} split are not next to each "
                f"other in one shard; {PREPARE_AGAIN}"
            )
        return found

    def in_memory(
        self, wanted: bool | None, *, with_margin: bool, report: bool = True
    ) -> "PreparedData":
        """Return the same data with the images of training and validation in memory, or as it is.

        The batches are the same, bit for bit.

        Args:
            wanted: whether to hold them; None for as many as take at most `HELD_BYTES`.
            with_margin: whether views are made from the images with their margin.
            report: whether to print one line that says which.

        Raises:
            DataError: a shard has been changed.
        """
        names = [name for name in HELD_SPLITS if self.count(name)]
        hold, size = self.fits_memory(wanted, with_margin), self._decoded_bytes(with_margin)
        if report:
            how = "held in memory" if hold else "read from the shards in each epoch"
            print_lines(f"images: {how}; decoded they take {size / 2**20:,.1f} MiB")
        if not hold:
            return self
        read = (read_split(self.folder, self.manifest, name, with_margin) for name in names)
        return replace(self, held=dict(zip(names, read, strict=True)))

    def fits_memory(self, wanted: bool | None, with_margin: bool) -> bool:
        """Return whether `in_memory` holds the images."""
        return self._decoded_bytes(with_margin) <= HELD_BYTES if wanted is None else wanted

    def _decoded_bytes(self, with_margin: bool) -> int:
        shape = self.manifest.stored_shape if with_margin else self.manifest.image_shape
        return sum(map(self.count, HELD_SPLITS)) * 4 * math.prod(shape)

    def references(self, split: str, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """Return the records of a split, or the indices of a held one, see `ImageData`."""
        self.require_images(split)
        if split in self.held:
            return self._held_order(split, epoch)
        records = self._records(split, epoch)
        return records.batch(CHUNK) if epoch is None else self._shuffled(records, split, epoch)

    def pairs(self, split: str, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """Return records of two images of each object, or indices, see `ImageData`."""
        self.require_images(split)
        objects, counts = self.objects(split), self._shard_counts(split)
        # As many objects begin in a shard: none is cut.
        begin = np.diff(np.searchsorted(objects.starts, np.append(0, np.cumsum(counts))))
        in_order = in_shard_order(begin, self._shard_order(split, epoch))
        size = CHUNK if epoch is None else self._block_size(split)
        pairs, image_counts = self._pair_blocks(objects, in_order, size, epoch)
        if split in self.held:
            return pairs.map(lambda indices, positions: indices)
        blocks = self._records(split, epoch).batch(CHUNK).rebatch(image_counts)

        def looked_up(pair: tuple[tf.Tensor, tf.Tensor], block: tf.Tensor) -> tf.data.Dataset:
            chunks = tf.data.Dataset.from_tensor_slices(pair[1]).batch(CHUNK)
            return chunks.map(lambda some: tf.gather(block, some))  # no copy of the whole block

        return tf.data.Dataset.zip((pairs, blocks)).flat_map(looked_up)

    def _shard_counts(self, split: str) -> np.ndarray:
        shards = self.manifest.splits[split].shards if split in self.manifest.splits else ()
        return np.array([shard.count for shard in shards], np.int64)

    def _shard_order(self, split: str, epoch: tf.Tensor | None) -> tf.Tensor:
        count = len(self.manifest.splits[split].shards)
        return tf.range(count) if epoch is None else self.order(epoch, 0, count)

    def _records(self, split: str, epoch: tf.Tensor | None) -> tf.data.Dataset:
        """Return the records in stored order, or with the shards in that of an epoch."""
        shards = self.manifest.splits[split].shards
        files = tf.constant([str(self.folder / shard.file) for shard in shards])
        return tf.data.TFRecordDataset(tf.gather(files, self._shard_order(split, epoch)))

    def _shuffled(self, records: tf.data.Dataset, split: str, epoch: tf.Tensor) -> tf.data.Dataset:
        """Shuffle all records, or blocks of a bounded size.

        `Dataset.shuffle` does not accept a tensor as seed, and the epoch is one here.
        """
        size = self._block_size(split)

        def shuffled(number: tf.Tensor, block: tf.Tensor) -> tf.data.Dataset:
            order = self.order(epoch, number, tf.size(block))
            chunks = tf.data.Dataset.from_tensor_slices(order).batch(CHUNK)
            return chunks.map(lambda some: tf.gather(block, some))  # no copy of the whole block

        return records.batch(size).enumerate(1).flat_map(shuffled)

    def _held_order(self, split: str, epoch: tf.Tensor | None) -> tf.data.Dataset:
        """Return the indices of a split in the order in which its records come."""
        count, size = self.count(split), self._block_size(split)
        if epoch is None:
            return tf.data.Dataset.range(count).batch(CHUNK)
        indices = in_shard_order(self._shard_counts(split), self._shard_order(split, epoch))

        def shuffled(number: tf.Tensor) -> tf.Tensor:
            block = indices[(number - 1) * size : number * size]
            return tf.gather(block, self.order(epoch, number, tf.size(block)))

        return tf.data.Dataset.range(1, -(-count // size) + 1).map(shuffled)

    def _block_size(self, split: str) -> int:
        """Return the number of images that are shuffled together."""
        return min(self.count(split), max(SHUFFLE_BYTES // image_bytes_of(self.manifest), 1))

    def look_up(self, split: str, references: tf.Tensor, with_margin: bool = False) -> Example:
        """Return the examples of records, or of the indices of a held split, see `ImageData`."""
        if split in self.held:
            example, margin = self.held[split].look_up(references), self.held[split].margin
        else:
            example, margin = parse_example(references, self.manifest.stored_shape), self.margin
        if with_margin and margin < self.margin:
            raise ValueError("with_margin must be False for images that are held without a margin")
        wide, repeats = example.pop("image"), self.bands // self.manifest.image_shape[2]
        if repeats > 1:
            wide = tf.tile(wide, (1, 1, 1, repeats))
        image = without_margin(wide, margin)
        return {**example, "image": image} | ({"image_with_margin": wide} if with_margin else {})

    def indices(self, references: tf.Tensor) -> tf.Tensor:
        """Return the index of each record in its split."""
        return references if references.dtype == tf.int64 else parse_index(references)


def open_folder(
    folder: str | Path,
    *,
    image_size: int | None = None,
    fit: str | None = None,
    bands: int | None = None,
    validation_fraction: float | None = None,
    seed: int = 0,
    mixed_sizes: bool = False,
    band_names: Sequence[str] | None = None,
    pixel_scale_arcsec: float | None = None,
    resample_to_arcsec: float | None = None,
    scale: ValueScale | None = None,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    fits_hdu: int | str | None = None,
    hdf5_dataset: str | None = None,
    stacks: bool | None = None,
    band_files: str | None = None,
    cache: str | Path = "runs/cache",
    strict: bool = False,
) -> PreparedData:
    """Open a folder of images, preparing it in the cache first, or a prepared folder.

    Args:
        folder: a folder of class folders or of unlabelled images, see data/README.md, or one that
            `prepare` wrote. `<folder>_test` next to it is its test split.
        image_size: side of the images in pixels; None for that of a prepared folder, or 64.
        fit: "resize" (centred square, scaled) or "crop" (central pixels as they are); None for
            that of a prepared folder, or "resize".
        bands: None for those of the images; 3 to repeat a grey image three times; more than 10
            only if the images have so many, as an array of 50 x 64 x 64 is else taken for a stack.
        validation_fraction: fraction of each class for validation; None for that of a prepared
            folder, or 0.1.
        seed: decides the split and the order of the images in each epoch.
        mixed_sizes: whether images of different sizes are resized all the same, which gives them
            different pixel scales.
        band_names: in the order of the files; None for those of the folder's `images.yaml`.
        pixel_scale_arcsec: of the files; None for that of `images.yaml`.
        resample_to_arcsec: pixel scale to which every image is resampled before its central
            square is cut; needs the pixel scale. None for that of a prepared folder, or none.
        scale: of the values; None for that of a prepared folder, or min-max.
        catalog: table of the images, whose files are relative to `folder`; None for class folders,
            or the `labels.csv` beside images.
        catalog_columns: role -> name of the table's column for it, see `prepare_folder`.
        fits_hdu: number, from 0, or name of the HDU of FITS files; None for that of `images.yaml`,
            or the first one that is an image.
        hdf5_dataset: name of the array in HDF5 files; None for that of `images.yaml`, or the only
            one that may be of images.
        stacks: whether a `.npy` array of three or four axes is a stack of images; None for what
            `images.yaml` says, or false.
        band_files: pattern of the names of files that hold one band each, such as
            "{id}_{band}.fits", with the bands of `band_names`; None for what `images.yaml` says, or
            for files that hold all bands.
        cache: folder for the prepared images.
        strict: whether a single unusable file is an error.

    Raises:
        RequestError: no such folder, or an argument that does not fit the images.
        DataError: the images cannot be used.
    """
    prepared = ensure_prepared(
        Path(folder),
        Path(cache),
        image_size=image_size,
        fit=fit,
        validation_fraction=validation_fraction,
        seed=seed,
        bands=bands,
        mixed_sizes=mixed_sizes,
        band_names=band_names,
        pixel_scale_arcsec=pixel_scale_arcsec,
        resample_to_arcsec=resample_to_arcsec,
        scale=scale,
        catalog=catalog,
        catalog_columns=catalog_columns,
        fits_hdu=fits_hdu,
        hdf5_dataset=hdf5_dataset,
        stacks=stacks,
        band_files=band_files,
        strict=strict,
    )
    manifest = Manifest.load(prepared)
    return PreparedData(prepared, manifest, _band_count(manifest, bands), int(seed))


def open_data(config: Config, trained: Preprocessing | None = None) -> PreparedData:
    """Open the data of a configuration; see `open_folder`.

    Args:
        config: with the data.
        trained: of an encoder or a model that takes the images; a scale over the data has its
            interval, and not one of these images.
    """
    data, arguments = config.data, preparation_arguments(config)
    scale = arguments["scale"]
    if scale and trained and scale.of_values == trained.scaling.of_values.recipe:
        arguments["scale"] = replace(scale, limits=trained.scaling.limits)
    return open_folder(data.path, cache=data.cache, **arguments)


def dataset_facts(data: PreparedData) -> dict[str, object]:
    """Return what a run records of its data: fingerprint, content and order of each split."""
    splits = data.manifest.splits
    return {
        "dataset_fingerprint": data.manifest.fingerprint,
        "split_contents": {name: split.content for name, split in splits.items()},
        "split_orders": {name: _order_digest(data, name) for name in splits},
        "split_counts": {name: split.count for name, split in splits.items()},
        "image_margin": data.margin,
    }


def _order_digest(data: PreparedData, split: str) -> str:
    """Return a digest of the order of the images, on which the batches depend.

    It uses file names: the pixels of a resized image may differ by rounding between two
    processors, on which the parts of one run may be prepared.
    """
    order = [[shard.count for shard in data.manifest.splits[split].shards]]
    index = data.index(split)
    order.append(index["file"].tolist())
    if index["object"].any():
        order.append(index["object"].tolist())
    return hashlib.sha256(json.dumps(order).encode()).hexdigest()


def _band_count(manifest: Manifest, wanted: int | None) -> int:
    bands = manifest.image_shape[2]
    if wanted is not None and not (is_whole(wanted) and wanted >= 1):
        raise RequestError(
            f"bands must be a whole number of at least 1. Received: bands={wanted!r}"
        )
    if wanted not in (None, bands) and bands != 1:
        raise RequestError(
            f"data.bands {wanted}: the images have {bands} bands, and only a grey image is repeated"
        )
    return int(wanted or bands)
