"""Pairs of images of new lenses: what `simulate` would write for them and `prepare` make of it.

Worker processes run this module, so that it imports little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.source_images import scaled_image
from deeplens_tf.errors import DataError, UnusableFile
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.simulation.drawn_files import rendered_image
from deeplens_tf.simulation.request import MAX_COUNT, MAX_VIEWS, SimulationRequest


@dataclass(frozen=True)
class LensDrawing:
    """New lenses of a request, numbered from 0, the classes in turn.

    Attributes:
        request: of the stored lenses.
        framing: which part of an image is kept, and with which pixels.
        first: index of the first new lens of each class. No folder of a request can have the lenses
            from the default on, whatever its count is.
    """

    request: SimulationRequest
    framing: Framing
    first: int = MAX_COUNT

    def labels(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class of each new lens, as its place among those of the request."""
        return numbers % len(self.request.classes)

    def image(self, class_name: str, index: int, view: int) -> NDArray[np.float32] | None:
        """Return a prepared image, (S, S, 1) with its margin; None for one that is left out."""
        rendered = rendered_image(self.request, class_name, index, view)
        constant, scaled, *_ = scaled_image(rendered[..., np.newaxis], self.framing)
        return None if constant or isinstance(scaled, UnusableFile) else scaled

    def pair(self, number: int) -> list[NDArray[np.float32]]:
        """Return the first two images of a new lens that are not left out.

        Raises:
            DataError: the lens does not have two.
        """
        index, label = divmod(number, len(self.request.classes))
        name, index = self.request.classes[label], self.first + index
        pair = list(islice(self._images(name, index), 2))
        if len(pair) < 2:
            raise DataError(f"pretrain.stream: lens {index} of {name} has no two usable images")
        return pair

    def _images(self, class_name: str, index: int) -> Iterator[NDArray[np.float32]]:
        images = (self.image(class_name, index, view) for view in range(MAX_VIEWS))
        return (image for image in images if image is not None)


def drawn_images(numbers: Sequence[int], drawing: LensDrawing) -> NDArray[np.float32]:
    """Return two images of each new lens, shape (2, lenses, S, S, 1).

    Raises:
        DataError: see `LensDrawing.pair`.
    """
    return np.stack([drawing.pair(int(number)) for number in numbers], axis=1)
