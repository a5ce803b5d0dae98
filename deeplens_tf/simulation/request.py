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
    LENS_PRIORS,
    PRESETS,
    SHARED_FIELDS,
    SOURCE_PRIORS,
    Lens,
    draw_lens,
    require_known,
    with_shared,
)
from deeplens_tf.simulation.skies import USUAL_SKY, Sky
from deeplens_tf.simulation.survey_bands import DEFAULT_BANDS, SURVEY_BANDS
from deeplens_tf.simulation.survey_scenes import SURVEY_CLASSES, SURVEY_PRESETS, Scene, draw_scene
from deeplens_tf.simulation.wide_priors import with_wide_halo, with_wide_source

KNOWN_PRESETS = (*PRESETS, *SURVEY_PRESETS)
ALL_CLASSES = ("all",)
FILE_FORMATS = ("npy", "fits")
SIMULATED_SPLITS = ("train", "test")
MAX_COUNT = 10**8  # lenses from this index on are drawn while training, and in no folder
MAX_VIEWS = 100  # two digits in a file's name
MAX_SEED = 2**63 - 1
# Each ends the key of a generator, so that none of these draws depends on the others.
HALO_STREAM, SOURCE_STREAM, SKY_STREAM = 1, 2, 3
TEST_SUFFIX = "_test"


@dataclass(frozen=True)
class SimulationRequest:
    """Which images to simulate, and where they go.

    Attributes:
        preset: one of `KNOWN_PRESETS`.
        count: lenses per class.
        out: folder of the training split; the test split is written next to it.
        seed: another seed gives other lenses.
        noise: add the instrument's noise; Model I and the survey always have noise.
        split: one of `SIMULATED_SPLITS`.
        classes: which of the preset's classes, in any order; `ALL_CLASSES` for all of them.
        shard: (i, n), counted from 1: make only the i-th of n parts.
        views_per_lens: images of each lens, each with its own source position, exposure time and
            noise.
        shared: what the images of a lens have in common: "lens" (halo, shear and substructure)
            or "substructure", which makes a difference with the wide prior only.
        lens_prior: of halo and shear, one of `LENS_PRIORS`: "published" has the same ones in all
            lenses. Source and substructure of an image are the same with both.
        source_prior: of the source's size, index and shape, one of `SOURCE_PRIORS`: "published" has
            the same ones in all images, "wide" draws them for each. All else is the same with both.
        sky: ranges from which each image draws its PSF, its noise and the lens's place; lens and
            position of the source relative to it are the same under any.
        format: of the files, one of `FILE_FORMATS`.
        bands: of the survey's images, in their order, from
            `deeplens_tf.simulation.survey_bands.SURVEY_BANDS`; empty for g, r and i.
        catalog: write `catalog.csv`, of the survey's images.

    Raises:
        RequestError: one of them is invalid; the message states what is valid.
    """

    preset: str
    count: int
    out: Path
    seed: int = 0
    noise: bool = False
    split: str = "train"
    classes: tuple[str, ...] = ALL_CLASSES
    shard: tuple[int, int] = (1, 1)
    views_per_lens: int = 1
    shared: str = "lens"
    lens_prior: str = "published"
    source_prior: str = "published"
    sky: Sky = USUAL_SKY
    format: str = "npy"
    bands: tuple[str, ...] = ()
    catalog: bool = False

    def __post_init__(self) -> None:
        require_known("preset", self.preset, KNOWN_PRESETS)
        require_known("split", self.split, SIMULATED_SPLITS)
        require_known("lens prior", self.lens_prior, LENS_PRIORS)
        require_known("source prior", self.source_prior, SOURCE_PRIORS)
        require_known("format", self.format, FILE_FORMATS)
        _check_range("count", self.count, 1, MAX_COUNT)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_shard(*self.shard)
        _check_views(self.views_per_lens, self.shared)
        _check_out(self.out)
        object.__setattr__(self, "classes", _ordered_classes(self.preset, self.classes))
        if self.is_survey:
            _check_survey(self)
            object.__setattr__(self, "bands", self.bands or DEFAULT_BANDS)
        else:
            _refuse_survey_options(self)
        object.__setattr__(self, "noise", self.noise or self.preset == "model_i" or self.is_survey)
        _check_noise_scale(self)

    @property
    def is_survey(self) -> bool:
        """Whether an image is a `Scene` in several bands, and not a `Lens`."""
        return self.preset in SURVEY_PRESETS

    @property
    def needs_lenstronomy(self) -> bool:
        """Whether lenstronomy draws its images, or their noise."""
        return self.is_survey or (self.noise and self.preset != "model_i")

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
        return self.folder / class_name / f"{class_name}_sim_{index:08d}{suffix}.{self.format}"

    def object_name(self, class_name: str, index: int) -> str:
        """Return the name of what the images of an index show.

        Of the survey it is the position in degrees, such as `J218.06568-37.36630`; else it contains
        the split, since lenses of the test split are others.
        """
        if self.is_survey:
            scene = self.scene(class_name, index)
            return f"J{scene.ra_deg:09.5f}{scene.dec_deg:+09.5f}"
        return f"{self.split}_{class_name}_{index:08d}"

    def lens(self, class_name: str, index: int, view: int = 0) -> Lens:
        """Draw the lens of an image of `PRESETS`.

        View 0 depends only on (preset, split, seed, class, index). A later view is drawn from a
        generator of its own, and has the shared parameters of view 0.
        """
        first = self._drawn(class_name, index, 0)
        if view == 0:
            return first
        return with_shared(self._drawn(class_name, index, view), first, self.shared)

    def _drawn(self, class_name: str, index: int, view: int) -> Lens:
        key = (index, view) if view else (index,)
        lens = draw_lens(self.preset, class_name, self._generator(class_name, *key))
        if self.lens_prior == "wide":
            lens = with_wide_halo(lens, self._generator(class_name, index, view, HALO_STREAM))
        if self.source_prior == "wide":
            lens = with_wide_source(lens, self._generator(class_name, index, view, SOURCE_STREAM))
        if self.sky.changes:
            lens = self.sky.over(lens, self._generator(class_name, index, view, SKY_STREAM))
        return lens

    def scene(self, class_name: str, index: int) -> Scene:
        """Draw what an image of the survey shows, from (preset, split, seed, class, index)."""
        return draw_scene(class_name, self._generator(class_name, index))

    def _generator(self, class_name: str, *indices: int) -> np.random.Generator:
        key = (
            KNOWN_PRESETS.index(self.preset),
            SIMULATED_SPLITS.index(self.split),
            _classes_of(self.preset).index(class_name),
        )
        seeds = np.random.SeedSequence(self.seed, spawn_key=(*key, *indices))
        return np.random.default_rng(seeds)


def _classes_of(preset: str) -> tuple[str, ...]:
    return SURVEY_CLASSES if preset in SURVEY_PRESETS else CLASSES


def _ordered_classes(preset: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    known = _classes_of(preset)
    if classes == ALL_CLASSES:
        return known
    for name in classes:
        require_known("class", name, known)
    if not classes:
        raise RequestError(f"no class to simulate; known: {', '.join(known)}")
    return tuple(name for name in known if name in classes)


def _check_survey(request: SimulationRequest) -> None:
    for band in request.bands:
        require_known("band", band, tuple(SURVEY_BANDS))
    if len(set(request.bands)) < len(request.bands):
        raise RequestError(f"bands must differ. Received: {','.join(request.bands)}")
    if request.views_per_lens > 1:
        raise RequestError(
            f"{request.preset} makes one image of each lens: views_per_lens must be 1. "
            f"Received: {request.views_per_lens}"
        )
    if request.lens_prior != "published":
        raise RequestError(f"{request.preset} has its own lenses: lens_prior needs another preset")
    if request.source_prior != "published":
        raise RequestError(
            f"{request.preset} has its own sources: source_prior needs another preset"
        )
    if request.sky.changes:
        names = ", ".join(request.sky.changes)
        raise RequestError(f"{request.preset} has its own sky: {names} needs another preset")


def _refuse_survey_options(request: SimulationRequest) -> None:
    survey = " or ".join(SURVEY_PRESETS)
    if request.bands:
        raise RequestError(f"{request.preset} has one band: bands needs preset {survey}")
    if request.catalog:
        raise RequestError(
            f"lenses of {request.preset} have no positions or magnitudes: "
            f"catalog needs preset {survey}"
        )


def _check_noise_scale(request: SimulationRequest) -> None:
    if "noise_scale" in request.sky.changes and not request.noise:
        raise RequestError("noise_scale has no effect on images without noise: noise must be set")


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
