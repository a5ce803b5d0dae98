"""Contrastive pretraining whose batches are made of neighbours in the encoder's feature space."""

import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.config import Config
from deeplens_tf.data.neighbour_order import neighbour_batches
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.streams import EpochOrder
from deeplens_tf.data.view_making import build_augment, view_margin
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.probes.outputs import NotFiniteOutputs, model_outputs
from deeplens_tf.terminal import print_lines
from deeplens_tf.training.divergence import ADVICE

_STREAM = 0x6E6569676862  # "neighb", of the random numbers of this module


def require_neighbours(
    config: Config, data: PreparedData, steps: int, distribution: Distribution
) -> None:
    """Refuse batches of neighbours where they cannot be made, or would change nothing.

    Raises:
        RequestError: several replicas, images that are not held in memory, an epoch of one batch,
            or a training that ends before the first of them.
    """
    if config.pretrain.negatives != "neighbours":
        return
    first, with_margin = config.pretrain.neighbours.first_epochs, _with_margin(config, data)
    reason = ""
    if distribution.strategy is not None:
        reason = "one device: --strategy none"
    elif not data.fits_memory(config.data.in_memory, with_margin):
        reason = "the images in memory: set data.in_memory=true"
    elif steps < 2:
        reason = "two batches in an epoch or more: set a smaller train.batch_size"
    elif first >= config.train.epochs:
        reason = (
            f"pretrain.neighbours.first_epochs below train.epochs, which is {config.train.epochs}. "
            f"Received: {first}"
        )
    if reason:
        raise RequestError(f"pretrain.negatives=neighbours needs {reason}")


def _with_margin(config: Config, data: PreparedData) -> bool:
    return view_margin(data, build_augment(config.augment)) > 0


def _every(epochs: int) -> str:
    return "each epoch" if epochs == 1 else f"every {epochs} epochs"


class NeighbourNegatives(keras.callbacks.Callback):
    """Sets the order of the pairs at the beginning of each epoch.

    In the first epochs it is random. After them, the batches are made of pairs whose images the
    encoder finds alike: of an object, its first image, without augmentation. Between two renewals
    the batches stay together and come in another order.

    Args:
        order: of the stream that the model is trained on.
        data: its images, held in memory.
        config: of the run.
    """

    def __init__(self, order: EpochOrder, data: PreparedData, config: Config) -> None:
        super().__init__()
        self.order, self.data = order, data
        self.batch_size, self.when = config.batch_size, config.pretrain.neighbours
        self._rows = np.ones(data.count("train"), bool)  # the images whose features are compared
        if config.pretrain.positives == "object":
            objects = data.objects("train")
            self._rows = np.isin(np.arange(len(self._rows)), objects.members[objects.starts])
        self._epoch, self._numbers = -1, np.arange(order.count)
        self._has_reported = False
        print_lines(
            f"negatives: neighbours in feature space from epoch {self.when.first_epochs + 1} on; "
            f"finding them takes a pass of the encoder over {self._rows.sum()} images, "
            f"{_every(self.when.every_epochs)}"
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the order of the epoch, unless it was restored.

        Raises:
            RequestError: the features are not finite; the training has diverged.
        """
        if epoch != self._epoch:
            generator = np.random.default_rng([self.data.seed, _STREAM, epoch])
            self._set(epoch, self._next(epoch, generator))

    def _next(self, epoch: int, generator: np.random.Generator) -> NDArray[np.int64]:
        since = epoch - self.when.first_epochs
        if since < 0:
            return generator.permutation(self._rows.sum())[: self.order.count]
        if since % self.when.every_epochs:
            return generator.permutation(self._numbers.reshape(-1, self.batch_size)).ravel()
        return self._renewed(epoch, generator)

    def _renewed(self, epoch: int, generator: np.random.Generator) -> NDArray[np.int64]:
        began = time.monotonic()
        try:
            features = model_outputs(self.model.encoder, self.data, "train", self._rows)
        except NotFiniteOutputs as error:
            raise RequestError(f"before epoch {epoch + 1}: {error}, {ADVICE}") from error
        numbers = neighbour_batches(features, self.batch_size, generator)
        if not self._has_reported:
            print_lines(f"negatives: found in {time.monotonic() - began:.1f} s")
        self._has_reported = True
        return numbers

    def _set(self, epoch: int, numbers: NDArray[np.int64]) -> None:
        self._epoch, self._numbers = epoch, numbers
        self.order.assign(epoch, numbers)

    def state(self) -> dict[str, Any]:
        """Return the order of the epoch, which a checkpoint stores."""
        return {"epoch": self._epoch, "numbers": self._numbers.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the order of the epoch of a checkpoint."""
        self._set(state["epoch"], np.array(state["numbers"], np.int64))
