"""Predictions of a fine-tuned model for the images of a folder, with or without labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.data.output_folder import check_outside
from deeplens_tf.data.rejects import REJECTED_FILE, RejectedFiles
from deeplens_tf.data.summary import nan_lines
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.inference.given_images import Data, given_images
from deeplens_tf.inference.model_input import ModelInput, open_input
from deeplens_tf.inference.new_images import Batch
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.preprocessing.statistics import unlike_training_lines
from deeplens_tf.probes.outputs import NotFiniteOutputs, finite_outputs
from deeplens_tf.terminal import print_lines

PREDICTIONS_FILE = "predictions.csv"


@dataclass(frozen=True)
class Predictions:
    """What `predict` wrote.

    Attributes:
        table: the file `predictions.csv`.
        count: number of its rows.
        rejected: number of files that cannot be used, listed in `rejected.csv` beside it.
        unlike_training: number of images unlike the training images; None if that is unknown.
    """

    table: Path
    count: int
    rejected: int
    unlike_training: int | None


def predict(
    run: str | Path,
    data: Data = None,
    out: str | Path | None = None,
    *,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    mixed_sizes: bool = False,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Predictions:
    """Write the predictions of a model for every usable image of a folder, or for given files.

    The images are read and preprocessed as those of the model's training were. Memory holds a
    batch of them. Labels are neither needed nor used.

    Args:
        run: a fine-tuning run, or the `.keras` file of a fine-tuned model.
        data: a folder of images, in subfolders or not, or one that `prepare` wrote, whose images
            are named relative to it; or a file, or several files and folders, whose images have
            the names that these have here, with `#<row>` for an image of a stack. None for the
            images of `catalog`.
        out: folder to write; None for one under `predictions/` in the run, or next to the file.
            Earlier predictions in it are replaced.
        pixel_scale_arcsec: of images for which no header or row states one; None for that in the
            folder's images.yaml, or unknown.
        resample: whether to resample images of another pixel scale than the model's.
        mixed_sizes: whether to resize images of different sizes all the same, which gives them
            different pixel scales.
        catalog: a table whose column `file` names the images, relative to the folder `data` or,
            without it, to the table's own folder, see data/README.md; None for all images.
        catalog_columns: role -> name of its column for it, where that is another one.
        settings: how the files are read, where neither as in training nor as in the folder's
            images.yaml: values of `fits_hdu`, `hdf5_dataset`, `stacks`, `band_files` and
            `band_names`, as in a configuration's section `data`. None undoes what is of the
            training.

    Returns:
        The table and the counts. Its columns are `file`, `predicted`, then `p_<class>` for each
        class or `std_dex`, `unlike_training`, and those of `id`, `ra` and `dec` that a catalogue
        has, as they are there. `predicted` is a class, or log10 of the mass in eV;
        for another quantity the columns of the regression have its name and its unit. `std_dex` is
        empty without a predicted uncertainty, `unlike_training` for a model of an earlier version.

    Raises:
        RequestError: no such run, file or folder; images of other bands or of another pixel scale
            than the model's; `settings` contradicts images.yaml; `out` contains something else;
            outputs that are not finite.
        DataError: no image can be used, or they differ in size.
    """
    given = given_images(data, catalog, catalog_columns)
    options = (pixel_scale_arcsec, resample, mixed_sizes, settings)
    source = open_input(Path(run), given, *options)
    target = Path(out) if out else source.file.parent / "predictions" / given.output_name
    check_outside(target, *given.image_folders)
    _require_free(target)
    rejected = RejectedFiles(0)
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(target) as draft:
        counts = _write(source, rejected, draft)
        if not counts.sum():
            why = rejected if rejected.total else "no image file is in it"
            raise DataError(f"{given}: no usable image in it; {why}")
        if len(rejected):
            rejected.save(draft / REJECTED_FILE)
        replace_folder(draft, target)
    rejected.report(target / REJECTED_FILE)
    print_lines(*nan_lines(source.images.nan_filled))
    known = source.model.training_range is not None
    if known:
        print_lines(*unlike_training_lines(int(counts[1]), int(counts.sum())))
    unlike = int(counts[1]) if known else None
    return Predictions(target / PREDICTIONS_FILE, int(counts.sum()), len(rejected), unlike)


def _write(source: ModelInput, rejected: RejectedFiles, draft: Path) -> NDArray[np.int64]:
    """Write the table; return the numbers of images like and unlike the training images."""
    counts = np.zeros(2, np.int64)
    # A file name need not be valid Unicode.
    with (draft / PREDICTIONS_FILE).open(
        "w", encoding="utf-8", errors="surrogateescape", newline=""
    ) as stream:
        for batch in source.images.with_progress(rejected):
            table = _table(source, batch)
            table.to_csv(stream, index=False, lineterminator="\n", header=not counts.any())
            unlike = int(table["unlike_training"].eq(True).sum())
            counts += [len(table) - unlike, unlike]
    return counts


def _table(source: ModelInput, batch: Batch) -> pd.DataFrame:
    model = source.model
    try:
        outputs = finite_outputs(model.predict_on_batch(batch.images))
    except NotFiniteOutputs as error:
        raise RequestError(f"{source.file}: {error}: its training diverged") from error
    found = _classes(model, outputs) if model.class_names else _masses(model, outputs)
    spread = model.training_range
    flags = None if spread is None else spread.unlike(batch.images)
    columns = {"file": pd.Series(batch.files, dtype=object), **found, "unlike_training": flags}
    return pd.DataFrame({**columns, **batch.places})


def _classes(model: DownstreamModel, outputs: NDArray[np.float32]) -> dict[str, NDArray]:
    names = np.asarray(model.class_names, object)
    probabilities = outputs.astype(np.float64)
    columns = {f"p_{name}": probabilities[:, k] for k, name in enumerate(names)}
    return {"predicted": names[outputs.argmax(axis=1)], **columns}


def _masses(model: DownstreamModel, outputs: NDArray[np.float32]) -> dict[str, NDArray]:
    std = outputs[:, 1] if model.head.gaussian else np.full(len(outputs), np.nan)
    _, predicted, deviation = model.target.headers
    return {predicted: outputs[:, 0], deviation: std}


def _require_free(target: Path) -> None:
    """Refuse to replace anything but predictions."""
    own = {PREDICTIONS_FILE, REJECTED_FILE}
    if target.exists() and (not target.is_dir() or {p.name for p in target.iterdir()} - own):
        raise RequestError(f"{target} contains something else: give --out another folder")
