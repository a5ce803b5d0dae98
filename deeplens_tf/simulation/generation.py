"""Writes simulated images to disk, in the DeepLense folder layout.

<folder>/simulation.json
<folder>/images.yaml
<folder>/objects.csv
<folder>/<class>/<class>_sim_<index>.npy
<folder>/<class>/<class>_sim_<index>_<view>.npy
<folder>/axion/masses.csv
<folder>/catalog.csv

`objects.csv` and the views in file names are those of several images per lens, `catalog.csv` is
that of the survey. Files may be `.fits` instead of `.npy`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import sweep_partials, write_whole
from deeplens_tf.process_pool import map_unordered
from deeplens_tf.simulation.compiled_cache import require_lenstronomy
from deeplens_tf.simulation.drawn_files import complete_size, file_content
from deeplens_tf.simulation.image_tables import write_catalog, write_masses, write_objects
from deeplens_tf.simulation.properties_file import write_properties
from deeplens_tf.simulation.request import ALL_CLASSES, SimulationRequest
from deeplens_tf.simulation.request_file import claim_folder
from deeplens_tf.simulation.skies import USUAL_SKY, Sky

# Small enough to stop in less than a second, large enough to hide the cost of starting a task.
IMAGES_PER_TASK = 32

ImageKey = tuple[str, int, int]  # class, index and view


@dataclass(frozen=True)
class SimulationOutcome:
    """What a run did.

    Attributes:
        request: what was simulated; `request.lens(class_name, index, view)` returns the
            parameters of an image, `request.scene(class_name, index)` those of a survey's.
        written: number of images that this run made.
        kept: number of images that already existed.
        other_versions: package -> version that made the kept images, for each package that is
            now installed in another version; usually empty.
    """

    request: SimulationRequest
    written: int
    kept: int
    other_versions: dict[str, str]

    @property
    def folder(self) -> Path:
        """The folder of the images."""
        return self.request.folder


def simulate(
    out: str | Path,
    count: int,
    *,
    preset: str = "model_ii",
    seed: int = 0,
    split: str = "train",
    classes: Sequence[str] = ALL_CLASSES,
    noise: bool = False,
    shard: tuple[int, int] = (1, 1),
    jobs: int = 1,
    views_per_lens: int = 1,
    shared: str = "lens",
    lens_prior: str = "published",
    source_prior: str = "published",
    sky: Sky = USUAL_SKY,
    format: str = "npy",
    bands: Sequence[str] = (),
    catalog: bool = False,
) -> SimulationOutcome:
    """Simulate images of strong lenses into a folder, one subfolder per class.

    An interrupted run resumes where it stopped, and a larger count adds images: complete images
    are kept. With several images per lens, `objects.csv` in the folder says which show one lens.

    Args:
        out: folder of the training split; the test split is written to `<out>_test`.
        count: lenses per class.
        preset: one of `KNOWN_PRESETS`: an instrument of DeepLense, or "sersic_survey".
        seed: another seed gives other lenses.
        split: "train" or "test"; no image is in both.
        classes: which of the preset's classes, in any order; by default all of them.
        noise: add the instrument's noise; Model I and the survey always have noise.
        shard: (i, n), counted from 1: make only the i-th of n parts.
        jobs: number of processes; the images are the same for any number. In a script, several
            need `if __name__ == "__main__":` around its work.
        views_per_lens: images of each lens, from 1 to 100, which differ in source position,
            exposure time and noise (arXiv:2308.09751). The first is the image that 1 gives.
        shared: what the images of a lens have in common: "lens" (halo, shear and substructure)
            or "substructure", which makes a difference with the wide prior only.
        lens_prior: of halo and shear: "published", the same ones in all lenses, or "wide", each
            lens its own. Source and substructure of an image are the same with both.
        source_prior: of the source's size, index and shape: "published", the same ones in all
            images, or "wide", drawn for each. All else is the same with both.
        sky: ranges from which each image draws its PSF, its noise and the lens's place, such as
            `Sky(psf_scale=(0.8, 1.25))`. Lens and source are the same under any.
        format: of the files, "npy" or "fits".
        bands: of the survey's images, from g, r, i, z and Y; empty for g, r and i.
        catalog: write `catalog.csv`: positions, Einstein radii and magnitudes of the survey.

    Raises:
        RequestError: an argument is invalid, or the folder contains another simulation.
        ResourceError: a worker process was killed.
    """
    if not str(out):
        raise RequestError("out must name a folder. Received: out=''")
    request = SimulationRequest(
        *(preset, count, Path(out), seed, noise, split, tuple(classes), shard),
        *(views_per_lens, shared, lens_prior, source_prior, sky, format, tuple(bands), catalog),
    )
    return run_request(request, jobs)


def run_request(request: SimulationRequest, jobs: int = 1) -> SimulationOutcome:
    """Make the images of a request that don't exist yet, and their tables.

    Args:
        request: what to simulate and where.
        jobs: number of processes; the images are the same for any number.

    Raises:
        RequestError: the folder is a file, or contains another simulation, or lenstronomy is
            needed and not installed.
        ResourceError: a worker process was killed.
    """
    if jobs < 1:
        raise RequestError(f"jobs must be at least 1. Received: {jobs}")
    if request.needs_lenstronomy:
        require_lenstronomy()
    _make_folder(request.folder)
    other_versions = claim_folder(request)
    write_properties(request)
    for name in request.classes:
        _make_folder(request.folder / name)
    if request.views_per_lens > 1:
        # Before the images: without a row, an image would pass for one of an object of its own.
        write_objects(request)
    missing = missing_images(request)
    kept = len(request.indices) * len(request.classes) * len(request.views) - len(missing)
    _render_all(request, missing, kept, jobs)
    if "axion" in request.classes:
        write_masses(request)
    if request.catalog:
        write_catalog(request)
    for name in request.classes:
        sweep_partials(request.folder / name)
    return SimulationOutcome(request, len(missing), kept, other_versions)


def missing_images(request: SimulationRequest) -> list[ImageKey]:
    """Return the keys of the request's images that are absent or incomplete on disk."""
    complete = complete_size(request)
    sizes = {name: _file_sizes(request.folder / name) for name in request.classes}
    return [
        (name, index, view)
        for name, index, view in request.images()
        if sizes[name].get(request.image_path(name, index, view).name) != complete
    ]


def write_image(request: SimulationRequest, class_name: str, index: int, view: int) -> None:
    """Render one image and write its file, completely or not at all."""
    content = file_content(request, class_name, index, view)
    write_whole(request.image_path(class_name, index, view), lambda file: file.write(content))


def _render_all(request: SimulationRequest, missing: list[ImageKey], kept: int, jobs: int) -> None:
    size = min(IMAGES_PER_TASK, math.ceil(len(missing) / jobs))
    tasks = list(_batches(missing, size))
    processes = max(1, min(jobs, len(tasks)))
    total = len(missing) + kept
    # disable=None: a bar on a terminal, nothing in a log.
    with (
        tqdm(total=total, initial=kept, unit="image", disable=None) as bar,
        # Closed here, so that a stop ends the workers before anything else happens.
        closing(map_unordered(partial(_write_batch, request), tasks, processes)) as batches,
    ):
        for written in batches:
            bar.update(written)


def _write_batch(request: SimulationRequest, images: list[ImageKey]) -> int:
    for class_name, index, view in images:
        write_image(request, class_name, index, view)
    return len(images)


def _batches(images: list[ImageKey], size: int) -> Iterator[list[ImageKey]]:
    return (images[start : start + size] for start in range(0, len(images), max(size, 1)))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(f"{folder} can't be a folder: a file is in its place") from error


def _file_sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
