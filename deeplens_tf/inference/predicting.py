"""Predictions of a fine-tuned model for new images, with or without labels."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplens_tf import __version__
from deeplens_tf.data.output_folder import check_outside
from deeplens_tf.data.summary import nan_lines
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import draft_file, writing
from deeplens_tf.files.shipped import sha256_of
from deeplens_tf.inference.given_images import Data, given_images
from deeplens_tf.inference.model_input import ModelInput, open_input
from deeplens_tf.inference.new_images import Batch
from deeplens_tf.inference.prediction_rows import (
    FIRST,
    LAST,
    UNLIKE_TRAINING,
    prediction_columns,
    prediction_rows,
)
from deeplens_tf.inference.table_files import (
    Columns,
    require_replaceable,
    require_writable,
    suffix_of,
    write_table,
)
from deeplens_tf.inference.unfinished_table import Progress, UnfinishedTable, unfinished_table
from deeplens_tf.preprocessing.statistics import unlike_training_lines
from deeplens_tf.terminal import counted, print_lines

ALL = (1, 1)


@dataclass(frozen=True)
class Predictions:
    """What `predict` wrote.

    Attributes:
        table: the file.
        count: number of images with predictions.
        rejected: number of images that cannot be used; they have rows too, with the reason.
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
    shard: tuple[int, int] = ALL,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    mixed_sizes: bool = False,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Predictions:
    """Write the predictions of a model for every image of a folder, or for given files.

    The images are read and preprocessed as those of the model's training were. Memory holds a
    batch of them, and the names of all. Labels are neither needed nor used. The probabilities are
    those of `evaluate`, on a CPU to the last bit. After an interruption, the same call goes on:
    until the table is complete, `<table>.unfinished` beside it has its rows.

    Args:
        run: a fine-tuning run, or the `.keras` file of a fine-tuned model.
        data: a folder of images, in subfolders or not, or one that `prepare` wrote, whose images
            are named relative to it; or a file, or several files and folders, whose images have
            the names that these have here, with `#<row>` for an image of a stack. None for the
            images of `catalog`.
        out: table to write, `.csv`, `.parquet`, `.fits` or `.ecsv`; None for a `.csv` under
            `predictions/` in the run, or next to the file. Earlier predictions are replaced.
        shard: (i, n), counted from 1: only the i-th of n blocks of the images, in the table
            `<name>-<i>-of-<n>`. The blocks together are all images, in the same order.
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
        The table and the counts. Its rows are all images, in the order of their names in a folder.
        Its columns are `file`, `predicted`, then `p_<class>` for each class or `std_dex`,
        `unlike_training`, those of `id`, `ra` and `dec` that a catalogue has, and `reason`, why an
        image cannot be used, whose predictions are then empty. `predicted` is a class, or log10 of
        the mass in eV; for another quantity the columns of the regression have its name and its
        unit. `std_dex` is empty without a predicted uncertainty, `unlike_training` for a model of
        an earlier version. In CSV every value is as `evaluate` writes it and as the catalogue has
        it; else outputs are float32, and `ra` and `dec` float64 where all of them are numbers.

    Raises:
        RequestError: no such run, file or folder; images of other bands or of another pixel scale
            than the model's; `settings` contradicts images.yaml; `out` is something else than
            predictions or has another suffix; more shards than images; outputs that are not finite.
        DataError: no image can be used, which the table then says of each; or images differ in
            size.
        ResourceError: another process writes the table.
    """
    given = given_images(data, catalog, catalog_columns)
    if out is not None:
        suffix_of(Path(out))
    options = (pixel_scale_arcsec, resample, mixed_sizes, settings)
    source = open_input(Path(run), given, *options)
    own = source.file.parent / "predictions" / f"{given.output_name}.csv"
    target = _of_shard(Path(out) if out else own, shard)
    check_outside(target, *given.image_folders)
    require_replaceable(target, FIRST, LAST)
    if not source.images.count:
        raise DataError(f"{given}: no usable image in it; no image file is in it")
    columns = prediction_columns(source)
    block = _block(source.images.count, shard)
    require_writable(target, columns, source.images.names(block))
    progress = _write(source, block, target, columns, shard)
    return _reported(source, progress, target, str(given))


def _of_shard(path: Path, shard: tuple[int, int]) -> Path:
    i, n = shard
    return path if shard == ALL else path.with_name(f"{path.stem}-{i}-of-{n}{path.suffix}")


def _block(count: int, shard: tuple[int, int]) -> range:
    """Return the images of a shard; the sizes of shards differ by one at most."""
    i, n = shard
    if not 1 <= i <= n:
        raise RequestError(f"shard i/n needs 1 <= i <= n. Received: {i}/{n}")
    if n > count:
        raise RequestError(f"shard {i}/{n}: more shards than the {counted(count, 'image')}")
    return range((i - 1) * count // n, i * count // n)


def _write(
    source: ModelInput, block: range, target: Path, columns: Columns, shard: tuple[int, int]
) -> Progress:
    """Write the table; rows that an interrupted call has written are kept."""
    images = source.images
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing(target),
        unfinished_table(target, _request(source, block, shard), len(block)) as table,
    ):
        _restore(source, table.progress)
        for batch in images.with_progress(block, table.progress.images):
            _add(source, table, batch)
        table.close()
        with draft_file(target, durable=True) as draft:
            write_table(table.rows, draft, suffix_of(target), columns)
    return table.progress


def _add(source: ModelInput, table: UnfinishedTable, batch: Batch) -> None:
    rows, progress, sizes = prediction_rows(source, batch), table.progress, source.images.sizes
    progress.unusable += len(batch.reasons)
    progress.first_unusable = progress.first_unusable or [*next(iter(batch.reasons.items()), ())]
    progress.unlike += int(rows[UNLIKE_TRAINING].eq(True).sum())
    progress.nan_filled = dict(source.images.nan_filled)
    progress.sizes = [[name, *shape] for name, shape in (sizes.extremes if sizes else ())]
    table.add(rows)


def _restore(source: ModelInput, progress: Progress) -> None:
    """Let the images know of those that an interrupted call has read."""
    source.images.nan_filled.update(progress.nan_filled)
    for name, *shape in progress.sizes:
        if source.images.sizes:
            source.images.sizes.check(tuple(shape), name)


def _request(source: ModelInput, block: range, shard: tuple[int, int]) -> dict[str, Any]:
    """Return what decides the content of a table, as JSON has it."""
    images, request = source.images, source.images.given.catalog
    readings = {str(place): repr(reading) for place, reading in images.readings.items()}
    return {
        "version": __version__,
        "model": sha256_of(source.file),
        "images": images.digest(block),
        "catalogue": sha256_of(request.path) if request and request.path else None,
        "options": [readings, images.mixed_sizes],
        "shard": list(shard),
    }


def _reported(source: ModelInput, progress: Progress, target: Path, data: str) -> Predictions:
    """Print what a user should know of the images; return what was written.

    Raises:
        DataError: no image can be used.
    """
    unusable = ""
    if progress.unusable:
        name, reason = progress.first_unusable
        count = f"{progress.unusable} of {progress.images} files rejected"
        unusable = f"{count}, the first: {name}: {reason}; all are in {target}, column reason"
    if not progress.usable:
        raise DataError(f"{data}: no usable image in it; {unusable}")
    if unusable:
        print_lines(unusable, stream=sys.stderr)
    print_lines(*nan_lines(source.images.nan_filled))
    if source.model.training_range is None:
        return Predictions(target, progress.usable, progress.unusable, None)
    print_lines(*unlike_training_lines(progress.unlike, progress.usable))
    return Predictions(target, progress.usable, progress.unusable, progress.unlike)
