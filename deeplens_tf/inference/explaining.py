"""Explanations: maps of what a network looks at in some images, as arrays and as a picture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.output_folder import check_outside
from deeplens_tf.data.rejects import REJECTED_FILE, RejectedFiles
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.figures.explanation_figures import explanation_grid
from deeplens_tf.figures.picture_files import save_figure
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder, writing
from deeplens_tf.files.npz_arrays import write_arrays
from deeplens_tf.files.products import encoder_file
from deeplens_tf.files.shipped import SHIPPED, sha256_of
from deeplens_tf.inference.attention_maps import attention_rollout
from deeplens_tf.inference.explained_network import (
    OCCLUSION,
    WAYS_TO_EXPLAIN,
    ExplainedNetwork,
    open_explained,
)
from deeplens_tf.inference.given_images import Data, GivenImages, given_images
from deeplens_tf.inference.image_maps import ImageMaps
from deeplens_tf.inference.model_input import open_images
from deeplens_tf.inference.new_images import NewImages
from deeplens_tf.inference.occlusion import Cover, Fill, cover_for, occlusion_maps

EXPLANATIONS_FILE, EXPLANATIONS_PICTURE = "explanations.npz", "explanations.png"
MAX_EXPLAINED = 100  # rows of the picture
NAME_CHARACTERS = 26


@dataclass(frozen=True)
class Explained:
    """What `explain` wrote.

    Attributes:
        file: of the maps, `explanations.npz`.
        picture: of the images with their maps, `explanations.png`.
        images: the names of the images.
        rejected: number of chosen files that cannot be used, listed in `rejected.csv` beside it.
    """

    file: Path
    picture: Path
    images: tuple[str, ...]
    rejected: int


def explain(
    run: str | Path,
    data: Data = None,
    out: str | Path | None = None,
    *,
    method: Literal["rollout", "occlusion"] = "occlusion",
    count: int = 8,
    control: bool = False,
    patch: int | None = None,
    stride: int | None = None,
    fill: Fill | None = None,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    mixed_sizes: bool = False,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Explained:
    """Write maps of what a network looks at in some images of a folder, or of given files.

    The images are spread evenly over all, in their order, the first and the last among them.
    They are read and preprocessed as those of the training were.

    Args:
        run: a run folder, the `.keras` file of a fine-tuned model or of an encoder, or the name of
            a shipped encoder.
        data: see `predict`: a folder, or files and folders; None for the images of `catalog`.
        out: folder to write; None for one under `explanations/` in the run, next to the file, or
            for a shipped encoder in the working directory. Earlier explanations are replaced.
        method: "occlusion", see `occlusion_maps`, or "rollout", see `attention_rollout`.
        count: number of images, at most 100.
        control: whether to take the same encoder with the initial weights of its run.
        patch: of an occlusion, see `occlusion_maps`.
        stride: of an occlusion.
        fill: of an occlusion, "median" (None) or "minimum".
        pixel_scale_arcsec: see `predict`, as of the other arguments.
        resample: see there.
        mixed_sizes: see there.
        catalog: see there.
        catalog_columns: see there.
        settings: see there.

    Returns:
        The files and the images. `explanations.npz` has the arrays `file`, shape (images,);
        `image`, as the network takes them, (images, height, width, bands); `map`, (images, height,
        width), and `grid`, (images, rows, columns), see the two functions; for a fine-tuned model
        `predicted`, and `probability` of the predicted class; and `about`, a text in JSON.

    Raises:
        RequestError: no such run, file or folder; an unknown method, or an option of another one;
            roll-out of a network that is no Vision Transformer of this package; images of other
            bands or of another pixel scale; `out` contains something else.
        DataError: no image can be used, or they differ in size.
    """
    cover_options = {"patch": patch, "stride": stride, "fill": fill}
    _require_options(method, count, cover_options)
    given = given_images(data, catalog, catalog_columns)
    file = encoder_file(run)
    target = Path(out) if out else _default_target(file, given, method, control)
    check_outside(target, *given.image_folders)
    _require_free(target)
    source = open_explained(file, method, control)
    cover = _cover(source, cover_options) if method == OCCLUSION else None
    how = (pixel_scale_arcsec, resample, mixed_sizes, settings)
    images = open_images(file, source.preprocessing, given, *how)
    rejected = RejectedFiles(0)
    files, shown = _chosen(images, count, rejected)
    about = {
        "network": str(file),
        "sha256": sha256_of(file),
        "control": control,
        "data": str(given.root.resolve()),
        "method": method,
        **(cover._asdict() if cover else {}),
        "measure": source.measure(method),
    }
    with writing(target), draft_folder(target) as draft:
        _write(draft, source, files, shown, cover, about)
        if len(rejected):
            rejected.save(draft / REJECTED_FILE)
        replace_folder(draft, target)
    rejected.report(target / REJECTED_FILE)
    written = (target / EXPLANATIONS_FILE, target / EXPLANATIONS_PICTURE)
    return Explained(*written, tuple(files), len(rejected))


def _require_options(method: str, count: int, cover_options: Mapping[str, Any]) -> None:
    if method not in WAYS_TO_EXPLAIN:
        raise RequestError(
            f"method must be {' or '.join(WAYS_TO_EXPLAIN)}. Received: {method!r:.60}"
        )
    if not 1 <= count <= MAX_EXPLAINED:
        raise RequestError(f"--count must be from 1 to {MAX_EXPLAINED}. Received: {count}")
    given = [name for name, value in cover_options.items() if value is not None]
    if given and method != OCCLUSION:
        raise RequestError(f"--{given[0]}: of no use without --method {OCCLUSION}")


def _cover(source: ExplainedNetwork, options: Mapping[str, Any]) -> Cover:
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return cover_for(source.preprocessing.image_shape, **given)
    except ValueError as error:
        raise RequestError(f"--{error}") from error


def _chosen(
    images: NewImages, count: int, rejected: RejectedFiles
) -> tuple[list[str], NDArray[np.float32]]:
    """Return names and images of those that can be used among some, spread evenly over all."""
    rows = spread(images.count, count)
    rejected.total = len(rows)
    batches = [batch for row in rows for batch in images.batches(range(row, row + 1))]
    for batch in batches:
        rejected.reasons |= batch.reasons
    usable = [batch for batch in batches if batch.files]
    if not usable:
        why = rejected if rejected.total else "no image file is in it"
        raise DataError(f"{images.given}: no usable image in it; {why}")
    files = [file for batch in usable for file in batch.files]
    return files, np.concatenate([batch.images for batch in usable])


def spread(total: int, count: int) -> list[int]:
    """Return which of `total` files are read: evenly, the first and the last among them."""
    if count >= total:
        return list(range(total))
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


def _write(
    draft: Path,
    source: ExplainedNetwork,
    files: list[str],
    images: NDArray[np.float32],
    cover: Cover | None,
    about: Mapping[str, Any],
) -> None:
    maps, said = _maps(source, images, cover), source.predictions(images)
    arrays = {
        "file": np.array(files),
        "image": images,
        "map": maps.pixels,
        "grid": maps.grid,
        **said,
        "about": np.array(json.dumps(about)),
    }
    write_arrays(draft / EXPLANATIONS_FILE, arrays)
    figure = explanation_grid(
        images, maps.pixels, _names(files, said), about["measure"], _title(about)
    )
    save_figure(figure, draft / EXPLANATIONS_PICTURE)


def _maps(source: ExplainedNetwork, images: NDArray[np.float32], cover: Cover | None) -> ImageMaps:
    try:
        if cover is None:
            return attention_rollout(source.network, images)
        return occlusion_maps(source.network, images, **cover._asdict())
    except ValueError as error:
        raise RequestError(f"{source.file}: {error}") from error


def _names(files: list[str], said: Mapping[str, NDArray]) -> list[str]:
    """Return the end of each file's name, with what a model says of the image."""
    most = NAME_CHARACTERS
    names = [file if len(file) <= most else f"…{file[-most:]}" for file in files]
    if "predicted" not in said:
        return names
    if "probability" not in said:
        predictions = [f"{value:.3f}" for value in said["predicted"]]
    else:
        pairs = zip(said["predicted"], said["probability"], strict=True)
        predictions = [f"{label} {probability:.3f}" for label, probability in pairs]
    return [f"{name}\n{each}" for name, each in zip(names, predictions, strict=True)]


def _title(about: Mapping[str, Any]) -> str:
    words = "Attention roll-out"
    if about["method"] == OCCLUSION:
        words = f"Occlusion by {about['patch']} x {about['patch']} pixels of the {about['fill']}"
    return f"{words}, untrained control" if about["control"] else words


def _default_target(file: Path, given: GivenImages, method: str, control: bool) -> Path:
    base = Path() if file.is_relative_to(SHIPPED) else file.parent
    words = [given.output_name, method, *(["control"] if control else [])]
    return base / "explanations" / "-".join(words)


def _require_free(target: Path) -> None:
    """Refuse to replace anything but explanations."""
    own = {EXPLANATIONS_FILE, EXPLANATIONS_PICTURE, REJECTED_FILE}
    if target.exists() and (not target.is_dir() or {p.name for p in target.iterdir()} - own):
        raise RequestError(f"{target} contains something else: give --out another folder")
