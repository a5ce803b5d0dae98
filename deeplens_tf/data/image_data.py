"""What training and probes need from a set of images, wherever the images are stored."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import pandas as pd
import tensorflow as tf

from deeplens_tf.augment.randomness import ORDER, PAIR, fold_in, key_of, orders
from deeplens_tf.data.manifest import SPLITS
from deeplens_tf.data.objects import Objects
from deeplens_tf.data.pair_order import pair_blocks
from deeplens_tf.errors import DataError
from deeplens_tf.preprocessing.preprocessing import Preprocessing

Example: TypeAlias = Mapping[str, tf.Tensor]

CHUNK = 128  # references that are handed on at once


class Share(NamedTuple):
    """Part `number` of `parts` equal parts of every batch, in the batch's order."""

    number: int
    parts: int


WHOLE = Share(0, 1)


class ImageData(ABC):
    """Images in splits, with labels and masses where known.

    Attributes:
        seed: decides the splits and the order of the images in each epoch.
        share: part of every batch that this process provides.
    """

    seed: int
    share: Share

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call the data in a message."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images in a batch."""

    @property
    def margin(self) -> int:
        """Width in pixels of the margin around each image from which views are made; 0: none."""
        return 0

    @property
    def lacks_margin(self) -> bool:
        """Whether the images were cropped and their surroundings are lost."""
        return False

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How raw images become those in a batch; None if unknown."""
        return None

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names in label order; empty for unlabelled data."""

    @abstractmethod
    def count(self, split: str) -> int:
        """Return the number of images in a split; 0 if there is no such split."""

    @abstractmethod
    def index(self, split: str) -> pd.DataFrame:
        """Return the table of a split: index, file, label, mass_ev, content, object.

        An unknown label is -1, an unknown mass NaN. `content` is the digest of the source image,
        see `content.content_digest`, "" in folders that earlier versions prepared. `object` is the
        name of what the image shows, "" if unknown.
        """

    @property
    def catalog_units(self) -> Mapping[str, str]:
        """Columns that a catalogue adds to the images, with their units; "" for none."""
        return {}

    def catalog(self, split: str, columns: Sequence[str]) -> pd.DataFrame:
        """Return what a catalogue says of the images of a split in some of its columns, as text.

        Args:
            split: name of the split.
            columns: of `catalog_units`.
        """
        return pd.DataFrame(index=range(self.count(split)), columns=list(columns), dtype=str)

    def objects(self, split: str) -> Objects:
        """Return the objects of a split; an image of no known object is one of its own."""
        return Objects.of(self.index(split)["object"])

    def require_images(self, split: str) -> None:
        """Refuse a split without images.

        Raises:
            DataError: the split is empty, or there is none of that name.
        """
        if not self.count(split):
            filled = [name for name in SPLITS if self.count(name)]
            raise DataError(
                f"{self.name}: split must be one that contains images, {' or '.join(filled)}. "
                f"Received: split={split!r}"
            )

    def examples(
        self, split: str, epoch: tf.Tensor | None = None, *, with_margin: bool = False
    ) -> tf.data.Dataset:
        """Return the examples of a split in stored order, or shuffled by (seed, epoch).

        Each is a dict of `image` (height, width, bands) float32 in [0, 1], `label` int64,
        `mass_ev` float64, `index` int64. `with_margin` adds `image_with_margin`, of which `image`
        is the centre: `margin` pixels more on each side.

        Raises:
            DataError: the split contains no image.
        """
        chunks = self.references(split, epoch).rebatch(CHUNK)
        return chunks.map(lambda some: self.look_up(split, some, with_margin)).unbatch()

    @abstractmethod
    def references(self, split: str, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """Return what `look_up` finds the examples of a split by, in the order of `examples`.

        Returns:
            Vectors of any lengths.

        Raises:
            DataError: the split contains no image.
        """

    @abstractmethod
    def pairs(self, split: str, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """Return references of two images of each object, in random order.

        They are two different images if the object has them; which, follows from (seed, epoch,
        object), and is that of epoch 0 in stored order.

        Returns:
            Tensors of shape (n, 2) with any n.

        Raises:
            DataError: the split contains no image.
        """

    @abstractmethod
    def look_up(self, split: str, references: tf.Tensor, with_margin: bool = False) -> Example:
        """Return the examples of references (batch,) as `examples` does, with a first axis."""

    @abstractmethod
    def indices(self, references: tf.Tensor) -> tf.Tensor:
        """Return the index of each reference in its split, (batch,) int64."""

    def order(self, epoch: tf.Tensor, number: int | tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """Return a random order of `count` things, which follows from (seed, epoch, number)."""
        key = fold_in(key_of(self.seed, epoch, ORDER), number)
        return orders(key[tf.newaxis], count)[0]

    def _pair_blocks(
        self, objects: Objects, in_order: tf.Tensor, block_size: int, epoch: tf.Tensor | None
    ) -> tuple[tf.data.Dataset, tf.Tensor]:
        """Return the pairs of an epoch, or those of epoch 0 in stored order; see `pair_blocks`."""

        def order(number: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
            return tf.range(count) if epoch is None else self.order(epoch, number, count)

        key = key_of(self.seed, 0 if epoch is None else epoch, PAIR)
        return pair_blocks(objects, in_order, block_size, key, order)
