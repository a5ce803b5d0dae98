"""Pretraining on new lenses, drawn by the simulator of the stored ones while the model trains."""

import math
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.config import Config
from deeplens_tf.cores import available_cores
from deeplens_tf.data.drawn_batches import DrawnPairs
from deeplens_tf.data.image_reader import TASK_BYTES
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.streams import Position
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.process_pool import Workers
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.request_file import RECORD_NAME, describe, recorded_request
from deeplens_tf.simulation.skies import USUAL_SKY
from deeplens_tf.training.lens_drawing import LensDrawing, drawn_images

MIN_PROCESSES = 2  # one would be the training process itself
PAIRS_PER_TASK = 16  # at most, that a worker process draws at once
SAME_PIXELS = 1e-3  # mean difference of two images that differ only by rounding, of [0, 1]
IMAGE_NAME = re.compile(r"(?P<name>\w+)/(?P=name)_sim_(?P<index>\d+)_(?P<view>\d+)\.\w+")
_ORDER_OF_LENSES = 0x73747265616D  # "stream", of the order of the pairs


def streamed_request(config: Config, distribution: Distribution) -> SimulationRequest | None:
    """Return the request of the stored images if new ones are to be drawn, else None.

    Raises:
        RequestError: there is nothing from which to draw pairs, or they would not be used.
    """
    if not config.pretrain.stream:
        return None
    request = recorded_request(Path(config.data.path))
    if reason := _reason_against(config, request, distribution):
        raise RequestError(f"pretrain.stream needs {reason}")
    return request


def _reason_against(
    config: Config, request: SimulationRequest | None, distribution: Distribution
) -> str | None:
    folder, pretrain = config.data.path, config.pretrain
    needs = {
        f"pairs of one lens: set pretrain.positives=object, not {pretrain.positives}": (
            pretrain.positives == "object"
        ),
        "pretrain.negatives=random: neighbours are found among stored images": (
            pretrain.negatives == "random"
        ),
        "one machine: --strategy none or mirrored": distribution.workers == 1,
        f"a folder that simulate wrote, with its {RECORD_NAME}, as data.path. Received: {folder}": (
            request is not None
        ),
        f"a training split: {folder} is a test split": (
            request is None or request.split == "train"
        ),
        f"lenses of two images: simulate {folder} with --views-per-lens 2": (
            request is None or request.views_per_lens > 1
        ),
    }
    return next((need for need, is_met in needs.items() if not is_met), None)


class DrawnStream:
    """Pairs of new lenses in batches, drawn by processes ahead of the training.

    The processes start with the first batch and end with the `with` block. Pair i of epoch e is the
    new lens number e * pairs + i, so that any batch can be drawn again. Within an epoch the pairs
    come in a random order, which follows from (seed, epoch).

    Args:
        drawing: makes the images.
        pairs: number of pairs in an epoch.
        batch_size: of them; the remainder of an epoch is not drawn.
        epochs: of the run.
        seed: of the run.
        processes: that draw; 1 is the calling process itself.
    """

    def __init__(
        self,
        drawing: LensDrawing,
        pairs: int,
        batch_size: int,
        epochs: int,
        seed: int,
        processes: int,
    ) -> None:
        self.drawing, self.pairs, self.epochs, self.seed = drawing, pairs, epochs, seed
        self.batch_size, self.processes = batch_size, processes
        self._workers = Workers(processes)
        self._fault: Exception | None = None
        self._has_ended = False

    def __enter__(self) -> Self:
        """Return the stream; nothing starts yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the processes, and raise what TensorFlow reports of them as what it was."""
        self._has_ended = True
        self._workers.__exit__()
        if self._fault is not None and isinstance(error, tf.errors.OpError):
            raise self._fault from error

    def batches(self, start: Position) -> Iterator[DrawnPairs]:
        """Draw the pairs of all batches of the run from a position on.

        Raises:
            DataError: a lens has no two images that can be used.
            ResourceError: a process was killed.
        """
        try:
            for batch in self._batches(start):
                if self._has_ended:  # nobody waits for these pairs
                    return
                yield batch
        except Exception as error:
            if self._has_ended:
                return
            self._fault = error
            raise

    def _batches(self, start: Position) -> Iterator[DrawnPairs]:
        parts = math.ceil(self.batch_size / self._pairs_per_task())
        tasks = (
            part
            for epoch, numbers in self._numbers(start)
            for part in np.array_split(epoch * self.pairs + numbers, parts)
        )
        drawn = self._workers.map(partial(drawn_images, drawing=self.drawing), tasks)
        for epoch, numbers in self._numbers(start):
            images = np.concatenate([*islice(drawn, parts)], axis=1)
            labels = self.drawing.labels(epoch * self.pairs + numbers)
            yield DrawnPairs(epoch, numbers, labels, images)

    def _numbers(self, start: Position) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Return the epoch of each batch, and the numbers of its pairs in the epoch."""
        for epoch in range(start.epoch, self.epochs):
            generator = np.random.default_rng([self.seed, _ORDER_OF_LENSES, epoch])
            order = generator.permutation(self.pairs)
            for step in range(start.step * (epoch == start.epoch), self.pairs // self.batch_size):
                yield epoch, order[step * self.batch_size : (step + 1) * self.batch_size]

    def _pairs_per_task(self) -> int:
        side = self.drawing.framing.image_size + 2 * self.drawing.framing.margin
        return max(1, min(PAIRS_PER_TASK, TASK_BYTES // (2 * 4 * side**2)))

    def facts(self) -> dict[str, Any]:
        """Return what environment.json says of the drawn lenses."""
        record = describe(self.drawing.request)
        names = ("preset", "seed", "noise", "classes", "shared", "lens_prior", "source_prior")
        return {
            **{key: record[key] for key in (*names, *USUAL_SKY.describe())},
            **{"first_lens": self.drawing.first, "pairs_per_epoch": self.pairs},
        }

    def text(self) -> str:
        """Return the line that says what is drawn."""
        classes = ", ".join(self.drawing.request.classes)
        return (
            f"stream: {self.pairs} new lenses of {classes} in each epoch, drawn by "
            f"{self.processes} processes; the stored training images are not trained on"
        )


def open_stream(
    request: SimulationRequest, data: PreparedData, config: Config, pairs: int
) -> DrawnStream:
    """Return the stream of a run.

    Args:
        request: of the stored images.
        data: these images, prepared.
        config: of the run.
        pairs: number of pairs in an epoch.

    Raises:
        DataError: the stored images are not those of the request, as this version draws them.
    """
    drawing = LensDrawing(request, data.preprocessing.framing)
    _require_same_images(drawing, data, config.data.path)
    processes = max(MIN_PROCESSES, available_cores())
    options = (config.batch_size, config.train.epochs, config.seed, processes)
    return DrawnStream(drawing, pairs, *options)


def _require_same_images(drawing: LensDrawing, data: PreparedData, path: str) -> None:
    """Refuse images for which other ones would be drawn; the first two stand for all."""
    if data.classes != drawing.request.classes:
        raise DataError(f"{path}: its classes are not those of its {RECORD_NAME}")
    examples = data.examples("train", with_margin=True).take(2)
    for name, example in zip(data.index("train")["file"], examples, strict=False):
        key = IMAGE_NAME.fullmatch(name)
        drawn = key and drawing.image(key["name"], int(key["index"]), int(key["view"]))
        stored = example["image_with_margin"].numpy()[..., : data.preprocessing.bands]
        if drawn is None or np.abs(drawn - stored).mean() > SAME_PIXELS:
            raise DataError(
                f"{path}: {name} is not what this version simulates by {RECORD_NAME}, so that new "
                "lenses would be others: simulate the images again, or set pretrain.stream=false"
            )
