"""What to simulate: the request, checked, and what follows from it alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import CLASSES, PRESETS, Lens, draw_lens

SPLITS = ("train", "test")
MAX_COUNT = 10**8
MAX_SEED = 2**63 - 1
TEST_SUFFIX = "_test"


@dataclass(frozen=True)
class SimulationRequest:
    """Which images to simulate, and where they go.

    Attributes:
        preset: one of `deeplens_tf.simulation.priors.PRESETS`.
        count: images per class.
        out: folder of the training split; the test split goes beside it.
        seed: changes every image.
        noise: add the instrument's noise; Model I has noise in any case.
        split: one of `SPLITS`.
        classes: which of `deeplens_tf.simulation.priors.CLASSES`, in any order.
        shard: (i, n), counted from 1: this run makes the i-th of n parts.

    Raises:
        RequestError: one of them is wrong; the message says what would be right.
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
        _check_choice("preset", self.preset, PRESETS)
        _check_choice("split", self.split, SPLITS)
        for name in self.classes:
            _check_choice("class", name, CLASSES)
        if not self.classes:
            raise RequestError(f"no class to simulate; known: {', '.join(CLASSES)}")
        _check_range("--count", self.count, 1, MAX_COUNT)
        _check_range("--seed", self.seed, 0, MAX_SEED)
        _check_shard(*self.shard)
        _check_out(self.out)
        ordered = tuple(name for name in CLASSES if name in self.classes)
        object.__setattr__(self, "classes", ordered)
        object.__setattr__(self, "noise", self.noise or self.preset == "model_i")

    @property
    def folder(self) -> Path:
        """The folder that is written: `out`, or `<out>_test` for the test split."""
        if self.split == "train":
            return self.out
        out = self.out if self.out.name not in ("", "..") else self.out.resolve()
        return out.with_name(out.name + TEST_SUFFIX)

    @property
    def indices(self) -> range:
        """The images of each class that fall to this shard."""
        i, n = self.shard
        return range(i - 1, self.count, n)

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield (class, index) of every image of this shard, the classes in turn."""
        return ((name, index) for index in self.indices for name in self.classes)

    def image_path(self, class_name: str, index: int) -> Path:
        """Return where image `index` of a class goes; the names sort by index."""
        return self.folder / class_name / f"{class_name}_sim_{index:08d}.npy"

    def lens(self, class_name: str, index: int) -> Lens:
        """Draw the lens of one image, from (preset, split, seed, class, index) alone."""
        key = (PRESETS.index(self.preset), SPLITS.index(self.split), CLASSES.index(class_name))
        seeds = np.random.SeedSequence(self.seed, spawn_key=(*key, index))
        return draw_lens(self.preset, class_name, np.random.default_rng(seeds))


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RequestError(f"unknown {what} {value!r}; known: {', '.join(known)}")


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestError(f"{option} must be from {low} to {high}. Received: {value}")


def _check_shard(i: int, n: int) -> None:
    if not 1 <= i <= n:
        raise RequestError(f"--shard i/n needs 1 <= i <= n. Received: {i}/{n}")


def _check_out(out: Path) -> None:
    # Without this, `--out x` and `--out x_test` of the same seed would hold the same images.
    if out.name.endswith(TEST_SUFFIX):
        right = out.with_name(out.name.removesuffix(TEST_SUFFIX))
        raise RequestError(
            f"--out {out} ends in {TEST_SUFFIX}, which marks a test split: "
            f"use --out {right} --split test"
        )
