"""A simulation request: validated options, and the lens and the path of each image.

Several images of one lens are simulations that share what matters and differ in nuisance, the idea
of Akhmetzhanova, Mishra-Sharma and Dvorkin (2023, arXiv:2308.09751): they share the deflector, or
its substructure, and have their own source and noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.priors import (
    CLASSES,
    PRESETS,
    SHARED_FIELDS,
    Lens,
    draw_lens,
    require_known,
    with_shared,
)

SIMULATED_SPLITS = ("train", "test")
MAX_COUNT = 10**8
MAX_VIEWS = 100  # two digits in a file's name
MAX_SEED = 2**63 - 1
TEST_SUFFIX = "_test"


@dataclass(frozen=True)
class SimulationRequest:
    """Which images to simulate, and where they go.

    Attributes:
        preset: one of `deeplens_tf.simulation.priors.PRESETS`.
        count: lenses per class.
        out: folder of the training split; the test split is written next to it.
        seed: another seed gives other lenses.
        noise: add the instrument's noise; Model I always has noise.
        split: one of `SIMULATED_SPLITS`.
        classes: which of `deeplens_tf.simulation.priors.CLASSES`, in any order.
        shard: (i, n), counted from 1: make only the i-th of n parts.
        views_per_lens: images of each lens, each with its own source position, exposure time and
            noise.
        shared: what the images of a lens have in common: "lens" (halo, shear and substructure)
            or "substructure". The priors fix halo and shear, so both give the same images.

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
    views_per_lens: int = 1
    shared: str = "lens"

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
        _check_views(self.views_per_lens, self.shared)
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
        """The indices of the lenses that this shard makes of each class."""
        i, n = self.shard
        return range(i - 1, self.count, n)

    @property
    def views(self) -> range:
        """The views of each lens: the numbers of its images."""
        return range(self.views_per_lens)

    def images(self) -> Iterator[tuple[str, int, int]]:
        """Return (class, index, view) of every image of this shard, alternating between classes."""
        return (
            (name, index, view)
            for index in self.indices
            for name in self.classes
            for view in self.views
        )

    def image_path(self, class_name: str, index: int, view: int = 0) -> Path:
        """Return the path of an image; names sort by index, then by view."""
        suffix = f"_{view:02d}" if self.views_per_lens > 1 else ""
        return self.folder / class_name / f"{class_name}_sim_{index:08d}{suffix}.npy"

    def lens(self, class_name: str, index: int, view: int = 0) -> Lens:
        """Draw the lens of an image.

        View 0 depends only on (preset, split, seed, class, index). A later view is drawn from a
        generator of its own, and has the shared parameters of view 0.
        """
        first = draw_lens(self.preset, class_name, self._generator(class_name, index))
        if view == 0:
            return first
        drawn = draw_lens(self.preset, class_name, self._generator(class_name, index, view))
        return with_shared(drawn, first, self.shared)

    def _generator(self, class_name: str, *indices: int) -> np.random.Generator:
        key = (
            PRESETS.index(self.preset),
            SIMULATED_SPLITS.index(self.split),
            CLASSES.index(class_name),
        )
        seeds = np.random.SeedSequence(self.seed, spawn_key=(*key, *indices))
        return np.random.default_rng(seeds)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RequestError(f"{name} must be from {low} to {high}. Received: {value}")


def _check_shard(i: int, n: int) -> None:
    if not 1 <= i <= n:
        raise RequestError(f"shard i/n needs 1 <= i <= n. Received: {i}/{n}")


def _check_views(views_per_lens: int, shared: str) -> None:
    _check_range("views_per_lens", views_per_lens, 1, MAX_VIEWS)
    require_known("shared part", shared, tuple(SHARED_FIELDS))
    if views_per_lens == 1 and shared != "lens":
        raise RequestError(
            f"shared {shared} has no effect on one image of each lens: "
            "views_per_lens must be at least 2. Received: 1"
        )


def _check_out(out: Path) -> None:
    # A training split in x_test would be taken for the test split of x, and may repeat its images.
    if out.name.endswith(TEST_SUFFIX):
        training = out.with_name(out.name.removesuffix(TEST_SUFFIX))
        raise RequestError(
            f"out {out} ends in {TEST_SUFFIX}, which marks a test split: "
            f"use out {training} and split test"
        )
