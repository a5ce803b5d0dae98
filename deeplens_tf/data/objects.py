"""The objects that the images of a split show, from the objects' names."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.terminal import counted


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a split, in the order of their first images.

    Attributes:
        members: indices of the images, object by object, rising within each, shape (images,).
        sizes: number of images of each object, shape (objects,).
    """

    members: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Objects":
        """Return the objects of images in the order of their index; "" is an object of its own."""
        first = first_of_object(names)
        return cls(np.argsort(first, kind="stable"), np.unique(first, return_counts=True)[1])

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the images of each object begin in `members`, shape (objects,)."""
        return np.cumsum(self.sizes) - self.sizes

    @property
    def have_pairs(self) -> bool:
        """Whether an object has two images or more."""
        return bool((self.sizes > 1).any())


def first_of_object(names: Iterable[str]) -> NDArray[np.int64]:
    """Return for each image the position of the first one of its object: its own for a name ""."""
    first: dict[str, int] = {}
    positions = [first.setdefault(name, i) if name else i for i, name in enumerate(names)]
    return np.array(positions, np.int64)


def objects_text(objects: Objects) -> str:
    """Return how many objects have how many images, such as "8100 objects of 2 images, 300 of 1".

    The most frequent number comes first.
    """
    (size, count), *others = Counter(sorted(objects.sizes.tolist())).most_common()
    first = f"{counted(count, 'object')} of {counted(size, 'image')}"
    return ", ".join([first, *(f"{count} of {size}" for size, count in others)])
