"""Images in memory, with the interface of a prepared folder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from deeplens_tf.augment import without_margin
from deeplens_tf.config import MAX_UNNAMED_BANDS
from deeplens_tf.data.array_scaling import scaled_images
from deeplens_tf.data.content import content_digest
from deeplens_tf.data.image_axes import check_sides
from deeplens_tf.data.image_data import WHOLE, Example, ImageData, Share
from deeplens_tf.data.mass_tables import MAX_MASS_EV, MIN_MASS_EV
from deeplens_tf.data.objects import first_of_object
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.splitting import validation_count
from deeplens_tf.errors import UnusableFile
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.value_scale import MIN_MAX, ValueScale
from deeplens_tf.terminal import counted

_SMALLEST_LOG10 = 1e-6  # a smaller number above 0 is a mass rather than a logarithm


@dataclass(frozen=True, eq=False)
class ArrayData(ImageData):
    """Images in memory, in splits; made by `from_arrays`.

    Attributes:
        images: shape (n, height, width, bands), float32 in [0, 1].
        table: one row for each image: split, file, label, mass_ev, content, object.
        class_names: in label order; empty for unlabelled data.
        seed: decides the splits and the order of the images in each epoch.
        share: part of every batch that this process provides.
        images_with_margin: the images with `margin` pixels more on each side, from which views
            are made; None for views of `images`.
        preprocessing: how raw images become those in a batch.
    """

    images: NDArray[np.float32]
    table: pd.DataFrame
    class_names: tuple[str, ...]
    seed: int
    share: Share = WHOLE
    images_with_margin: NDArray[np.float32] | None = None
    preprocessing: Preprocessing | None = None

    @property
    def name(self) -> str:
        """What to call the data in a message."""
        return f"{counted(len(self.images), 'image')} in memory"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images."""
        height, width, bands = self.images.shape[1:]
        return height, width, bands

    @property
    def margin(self) -> int:
        """Width in pixels of the margin around each image from which views are made; 0: none."""
        wide = self.images_with_margin
        return 0 if wide is None else (wide.shape[1] - self.images.shape[1]) // 2

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order; empty for unlabelled data."""
        return self.class_names

    def count(self, split: str) -> int:
        """Return the number of images in a split; 0 if there is no such split."""
        return int((self.table["split"] == split).sum())

    def index(self, split: str) -> pd.DataFrame:
        """Return the table of a split: index, file, label, mass_ev, content, object."""
        rows = self.table[self.table["split"] == split].drop(columns="split")
        rows.insert(0, "index", np.arange(len(rows)))
        return rows.reset_index(drop=True)

    def references(self, split: str, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """Return the indices of a split, see `ImageData`."""
        self.require_images(split)
        count = self.count(split)
        order = tf.range(count) if epoch is None else self.order(epoch, 1, count)
        return tf.data.Dataset.from_tensors(tf.cast(order, tf.int64))

    def pairs(self, split: str, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """Return indices of two images of each object, see `ImageData`."""
        self.require_images(split)
        objects = self.objects(split)
        in_order = tf.range(len(objects), dtype=tf.int64)
        pairs, _ = self._pair_blocks(objects, in_order, self.count(split), epoch)
        return pairs.map(lambda indices, positions: indices)

    def look_up(self, split: str, references: tf.Tensor, with_margin: bool = False) -> Example:
        """Return the examples of indices, see `ImageData`."""
        index, of_split = self.index(split), (self.table["split"] == split).to_numpy()
        wide = self.images_with_margin if with_margin else None
        key, images = ("image", self.images) if wide is None else ("image_with_margin", wide)
        with tf.init_scope():  # eager tensors, which a graph refers to instead of copying them
            columns = {
                key: tf.constant(images[of_split]),
                "label": tf.constant(index["label"].to_numpy()),
                "mass_ev": tf.constant(index["mass_ev"].to_numpy()),
                "index": tf.constant(index["index"].to_numpy()),
            }
        found = {name: tf.gather(values, references) for name, values in columns.items()}
        if wide is not None:  # cut here, so that the memory does not hold each centre twice
            found["image"] = without_margin(found["image_with_margin"], self.margin)
        return found

    def indices(self, references: tf.Tensor) -> tf.Tensor:
        """Return the references themselves."""
        return references


def from_arrays(
    images: ArrayLike,
    labels: ArrayLike | None = None,
    log10_mass: ArrayLike | None = None,
    *,
    objects: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    test: NDArray[np.bool_] | None = None,
    image_size: int | None = None,
    fit: str = "resize",
    validation_fraction: float = 0.1,
    seed: int = 0,
    band_names: Sequence[str] | None = None,
    pixel_scale_arcsec: float | None = None,
    scale: ValueScale = MIN_MAX,
) -> ArrayData:
    """Make a data set of images in memory.

    Each image is scaled to [0, 1] by its own values, as the images of a folder are: by default by
    its minimum and maximum, over all bands. A scale over the data is learnt from the images that
    are for training.

    Args:
        images: shape (n, height, width) or (n, height, width, bands), finite, none constant, none
            with a few values far from all others. A band that is constant within every image, such
            as an alpha channel, is left out; one that is constant in some images is an error.
        labels: class indices from 0, or class names, shape (n,); None for unlabelled images.
        log10_mass: log10 of the axion mass in eV, -40 to 3, NaN where unknown, shape (n,).
        objects: names or numbers of what the images show, shape (n,), such as those of lenses with
            several exposures each; "" for an image without one, None if all are without. The images
            of an object stay in one split and may be positives of each other, see `view_batches`.
        class_names: names in label order; None for the sorted names in `labels`, or for "0", "1",
            ... if there are images of each.
        test: True for the images of the test split, shape (n,); None for no test split.
        image_size: side of the images in pixels, 8 to 4096; None to keep that of square images.
        fit: "resize" or "crop", see `open_folder`.
        validation_fraction: fraction of each class for validation, 0 to 0.9.
        seed: decides the split and the order of the images in each epoch.
        band_names: of all bands of `images`, in their order; None if unknown.
        pixel_scale_arcsec: side of a pixel of `images`; None if unknown.
        scale: of the values.

    Raises:
        ValueError: an argument that is wrong, naming it and what was received.
    """
    array = _checked_images(images)
    count = len(array)
    size = _side(array) if image_size is None else image_size
    settings = PreparationSettings(
        image_size=size,
        fit=fit,
        validation_fraction=validation_fraction,
        seed=seed,
        band_names=None if band_names is None else tuple(band_names),
        pixel_scale_arcsec=pixel_scale_arcsec,
        scale=scale,
    )
    label_indices, names = _label_indices(labels, class_names, count)
    in_test = np.zeros(count, bool) if test is None else _column(test, count, "test").astype(bool)
    names_of_objects = _object_names(objects, label_indices, in_test)
    table = pd.DataFrame(
        {
            "split": _splits(label_indices, in_test, first_of_object(names_of_objects), settings),
            "file": [f"images[{i}]" for i in range(count)],
            "label": label_indices,
            "mass_ev": _masses_ev(log10_mass, count),
            "content": [content_digest(image) for image in array],
            "object": names_of_objects,
        }
    )
    wide, how = scaled_images(array, settings, (table["split"] == "train").to_numpy())
    if not settings.margin:
        return ArrayData(wide, table, names, seed, preprocessing=how)
    central = without_margin(wide, settings.margin)  # a part of the same memory
    return ArrayData(central, table, names, seed, images_with_margin=wide, preprocessing=how)


def _checked_images(images: ArrayLike) -> NDArray:
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or not array.size or array.dtype.kind not in "fiu":
        raise ValueError(
            "images must be real numbers of shape (n, height, width) or (n, height, width, bands). "
            f"Received: images of shape {np.shape(images)}, type {array.dtype}"
        )
    height, width, bands = array.shape[1:]
    try:
        check_sides(height, width)
        if bands > MAX_UNNAMED_BANDS and bands > min(height, width):
            raise UnusableFile(f"{bands} bands of {height} x {width} pixels")
    except UnusableFile as error:
        raise ValueError(
            "images must have the axes (n, height, width) or (n, height, width, bands). "
            f"Received: shape {np.shape(images)}, {error}"
        ) from error
    return array


def _side(array: NDArray) -> int:
    height, width = array.shape[1:3]
    if height != width:
        raise ValueError(
            f"image_size must be given for images that are not square. Received: {height} x {width}"
        )
    return height


def _label_indices(
    labels: ArrayLike | None, class_names: Sequence[str] | None, count: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if labels is None:
        return np.full(count, UNLABELLED, np.int64), ()
    values = _column(labels, count, "labels")
    if class_names is not None and len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names must differ from each other. Received: {class_names}")
    if values.dtype.kind in "US":
        names = tuple(class_names or sorted(set(values.tolist())))
        unknown = sorted(set(values.tolist()) - set(names))
        if unknown:
            raise ValueError(f"class_names must contain every label. Received: {unknown[0]!r}")
        return np.array([names.index(value) for value in values.tolist()], np.int64), names
    if values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(
            f"labels must be class names or indices from 0. Received: {values.dtype} values, "
            f"the smallest {values.min()}"
        )
    names = tuple(class_names or map(str, range(int(values.max()) + 1)))
    missing = sorted(set(range(len(names))) - set(values.tolist()))
    if class_names is None and missing:
        raise ValueError(
            "labels must count the classes from 0, without a gap, unless class_names is given. "
            f"Received: no label {missing[0]}, the largest {values.max()}"
        )
    if values.max() >= len(names):
        raise ValueError(
            f"labels must be below the {len(names)} class_names. Received: {values.max()}"
        )
    return values.astype(np.int64), names


def _masses_ev(log10_mass: ArrayLike | None, count: int) -> NDArray[np.float64]:
    if log10_mass is None:
        return np.full(count, np.nan)
    values = _column(log10_mass, count, "log10_mass").astype(np.float64)
    known = values[~np.isnan(values)]
    low, high = math.log10(MIN_MASS_EV), math.log10(MAX_MASS_EV)
    is_mass = (known > 0) & (known < _SMALLEST_LOG10)
    if not ((known >= low) & (known <= high)).all() or is_mass.any():
        raise ValueError(
            f"log10_mass must be the log10 of masses in eV, from {low:g} to {high:g}. "
            f"Received: values from {known.min():g} to {known.max():g}"
        )
    return 10.0**values


def _object_names(
    objects: ArrayLike | None, labels: NDArray[np.int64], in_test: NDArray[np.bool_]
) -> list[str]:
    """Return the name of each image's object, "" for none."""
    if objects is None:
        return [""] * len(labels)
    values = _column(objects, len(labels), "objects")
    if values.dtype.kind not in "USiu":
        raise ValueError(f"objects must be names or whole numbers. Received: {values.dtype} values")
    names = [str(value) for value in values.tolist()]
    first = first_of_object(names)
    for what, of_image in (("class", labels), ("split", in_test)):
        if (wrong := np.flatnonzero(of_image != of_image[first])).size:
            raise ValueError(
                f"objects must have all images of an object in one {what}. "
                f"Received: objects with {names[wrong[0]]!r} in two, images {first[wrong[0]]} and "
                f"{wrong[0]}"
            )
    return names


def _column(values: ArrayLike, count: int, name: str) -> NDArray:
    array = np.asarray(values)
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},). Received: shape {array.shape}")
    return array


def _splits(
    labels: NDArray[np.int64],
    in_test: NDArray[np.bool_],
    first: NDArray[np.int64],
    settings: PreparationSettings,
) -> NDArray[np.str_]:
    """Return the name of each image's split.

    Validation has the same fraction of the objects of each class; `first` is the first image of
    each image's object.
    """
    splits = np.where(in_test, "test", "train").astype("<U10")
    generator = np.random.default_rng([settings.seed, 0x73706C6974])
    for label in np.unique(labels):
        objects = generator.permutation(np.unique(first[(labels == label) & ~in_test]))
        count = validation_count(len(objects), settings.validation_fraction)
        splits[np.isin(first, objects[:count])] = "validation"
    return splits
