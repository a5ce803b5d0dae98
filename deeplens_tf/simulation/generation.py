"""Simulated images on disk, in the DeepLense folder layout.

<folder>/simulation.json
<folder>/<class>/<class>_sim_<index>.npy
<folder>/axion/masses.csv
"""

import io
import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deeplens_tf.errors import RequestError
from deeplens_tf.files.atomic_writing import sweep_partials, write_whole
from deeplens_tf.simulation.axion_masses import write_masses
from deeplens_tf.simulation.process_pool import map_unordered
from deeplens_tf.simulation.render import image_shape, render_image
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.request_file import claim_folder

# Small enough that a stop waits for less than a second, large enough to hide the hand-over.
IMAGES_PER_TASK = 32

Image = tuple[str, int]


@dataclass(frozen=True)
class SimulationOutcome:
    """What a run did.

    Attributes:
        folder: where the images are.
        written: images that this run made.
        kept: images that were there before.
        other_versions: packages, and their versions, that made the kept images and aren't the
            installed ones; empty as a rule.
    """

    folder: Path
    written: int
    kept: int
    other_versions: dict[str, str]


def simulate(request: SimulationRequest, jobs: int = 1) -> SimulationOutcome:
    """Make the images of a request that aren't there yet, and the file of axion masses.

    A run that was stopped goes on where it was: images that are complete stay as they are.

    Args:
        request: what to simulate and where.
        jobs: processes to use; the images are the same for any number.

    Raises:
        RequestError: the folder is a file, or belongs to another request.
        ResourceError: a worker process was killed.
    """
    if jobs < 1:
        raise RequestError(f"--jobs must be at least 1. Received: {jobs}")
    _make_folder(request.folder)
    other_versions = claim_folder(request)
    for name in request.classes:
        _make_folder(request.folder / name)
    missing = missing_images(request)
    kept = len(request.indices) * len(request.classes) - len(missing)
    _render_all(request, missing, kept, jobs)
    if "axion" in request.classes:
        write_masses(request)
    for name in request.classes:
        sweep_partials(request.folder / name)
    return SimulationOutcome(request.folder, len(missing), kept, other_versions)


def missing_images(request: SimulationRequest) -> list[Image]:
    """Return (class, index) of the request's images that aren't on disk, or not whole."""
    whole_size = len(_npy_bytes(np.zeros(image_shape(request.preset))))
    sizes = {name: _file_sizes(request.folder / name) for name in request.classes}
    return [
        (name, index)
        for name, index in request.images()
        if sizes[name].get(request.image_path(name, index).name) != whole_size
    ]


def write_image(request: SimulationRequest, class_name: str, index: int) -> None:
    """Render one image and write it as a plain float64 `.npy` file, whole or not at all."""
    content = _npy_bytes(render_image(request.lens(class_name, index), request.noise))
    write_whole(request.image_path(class_name, index), lambda file: file.write(content))


def _render_all(request: SimulationRequest, missing: list[Image], kept: int, jobs: int) -> None:
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


def _write_batch(request: SimulationRequest, images: list[Image]) -> int:
    for class_name, index in images:
        write_image(request, class_name, index)
    return len(images)


def _batches(images: list[Image], size: int) -> Iterator[list[Image]]:
    return (images[start : start + size] for start in range(0, len(images), max(size, 1)))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(f"{folder} can't be a folder: a file is in its place") from error


def _file_sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _npy_bytes(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(image, dtype="<f8"), allow_pickle=False)
    return buffer.getvalue()
