"""A simulation request: validated options, and the lens and the path of each image."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import CLASSES, PRESETS, Lens, draw_lens, require_known

SIMULATED_SPLITS = ("train", "test")
MAX_COUNT = 10**8
MAX_SEED = 2**63 - 1
TEST_SUFFIX = "_test"


@dataclass(frozen=True)
class SimulationRequest:
    """Which images to simulate, and where they go.

    Attributes:
        preset: one of `deeplens_tf.simulation.priors.PRESETS`.
        count: images per class.
        out: folder of the training split; the test split is written next to it.
        seed: another seed gives other lenses.
        noise: add the instrument's noise; Model I always has noise.
        split: one of `SIMULATED_SPLITS`.
        classes: which of `deeplens_tf.simulation.priors.CLASSES`, in any order.
        shard: (i, n), counted from 1: make only the i-th of n parts.

    Raises:
        RequestError: one of them is invalid; the message states what is valid.
    """

    preset: str
    count: int
    out: Path
    seed: int = 0
    noise: bool = False
    split: str = "train"
    classes: tuple[str, ...] = CLASSES
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        require_known("preset", self.preset, PRESETS)
        require_known("split", self.split, SIMULATED_SPLITS)
        for name in self.classes:
            require_known("class", name, CLASSES)
        if not self.classes:
            raise RequestError(f"no class to simulate; known: {', '.join(CLASSES)}")
        _check_range("count", self.count, 1, MAX_COUNT)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_shard(*self.shard)
        _check_out(self.out)
        ordered = tuple(name for name in CLASSES if name in self.classes)
        object.__setattr__(self, "classes", ordered)
        object.__setattr__(self, "noise", self.noise or self.preset == "model_i")

    @property
    def folder(self) -> Path:
        """The folder of the images: `out`, or `<out>_test` for the test split."""
        if self.split == "train":
            return self.out
        out = self.out if self.out.name not in ("", "..") else self.out.resolve()
        return out.with_name(out.name + TEST_SUFFIX)

    @property
    def indices(self) -> range:
        """The indices of the images that this shard makes of each class."""
        i, n = self.shard
        return range(i - 1, self.count, n)

    def images(self) -> Iterator[tuple[str, int]]:
        """Return (class, index) of every image of this shard, alternating between classes."""
        return ((name, index) for index in self.indices for name in self.classes)

    def image_path(self, class_name: str, index: int) -> Path:
        """Return the path of an image; names sort by index."""
        return self.folder / class_name / f"{class_name}_sim_{index:08d}.npy"

    def lens(self, class_name: str, index: int) -> Lens:
        """Draw the lens of an image; it depends only on (preset, split, seed, class, index)."""
        key = (
            PRESETS.index(self.preset),
            SIMULATED_SPLITS.index(self.split),
            CLASSES.index(class_name),
        )
        seeds = np.random.SeedSequence(self.seed, spawn_key=(*key, index))
        return draw_lens(self.preset, class_name, np.random.default_rng(seeds))


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestError(f"{name} must be from {low} to {high}. Received: {value}")


def _check_shard(i: int, n: int) -> None:
    if not 1 <= i <= n:
        raise RequestError(f"shard i/n needs 1 <= i <= n. Received: {i}/{n}")


def _check_out(out: Path) -> None:
    # A training split in x_test would be taken for the test split of x, and may repeat its images.
    if out.name.endswith(TEST_SUFFIX):
        training = out.with_name(out.name.removesuffix(TEST_SUFFIX))
        raise RequestError(
            f"out {out} ends in {TEST_SUFFIX}, which marks a test split: "
            f"use out {training} and split test"
        )
