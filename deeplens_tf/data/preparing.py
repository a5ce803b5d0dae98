"""From a folder of images to a prepared folder: shards, an index per split, a manifest."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplens_tf.data.band_files import with_bands
from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.catalog_texts import verify_texts
from deeplens_tf.data.draft import ReadingOptions, write_draft
from deeplens_tf.data.folder_settings import (
    PREPARED_KEYS,
    PROPERTY_KEYS,
    folder_settings,
)
from deeplens_tf.data.manifest import Manifest, is_prepared
from deeplens_tf.data.output_folder import check_free, check_outside, is_current
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.rejects import REJECTED_FILE, RejectedFiles, check_strict
from deeplens_tf.data.shard_checks import check_shards
from deeplens_tf.data.shards import verify_shards
from deeplens_tf.data.source_files import RECORDS_FILE, read_records, renew_records, source_state
from deeplens_tf.data.source_folders import FOLDERS_ALONE, Folders, scan_folders
from deeplens_tf.data.stacks import with_rows
from deeplens_tf.data.summary import notes
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.preprocessing.value_scale import SCALE_KEYS, ValueScale
from deeplens_tf.process_pool import Workers
from deeplens_tf.terminal import counted, print_lines

OTHER_LIMITS = "give the images that it was made of, which are then scaled by that interval"
FILES_PER_PROCESS = 500  # starting another process takes as long as preparing so many

# Settings that earlier versions do not have; they do as these do with 0 or false.
LATER_SETTINGS = (
    *("margin", "mixed_sizes", "band_names", "pixel_scale_arcsec", "resample_to_arcsec"),
)


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    image_size: int | None = None,
    fit: str | None = None,
    validation_fraction: float | None = None,
    seed: int,
    bands: int | None = None,
    mixed_sizes: bool = False,
    band_names: Sequence[str] | None = None,
    pixel_scale_arcsec: float | None = None,
    resample_to_arcsec: float | None = None,
    scale: ValueScale | None = None,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    fits_hdu: int | str | None = None,
    hdf5_dataset: str | None = None,
    stacks: bool | None = None,
    band_files: str | None = None,
    strict: bool = False,
    progress: bool = True,
    jobs: int = 1,
) -> Manifest:
    """Prepare the images of `source`, and of `<source>_test`, in the new folder `out`.

    Args:
        source: folder of class folders, or of unlabelled images. It is not changed.
        out: written completely or not at all; kept if it is up to date. If too many files are
            rejected, `<out>-rejected.csv` next to it lists them.
        image_size: side of the prepared images in pixels; None for 64.
        fit: "resize" or "crop", see `scaling.resize_and_scale`; None for "resize".
        validation_fraction: fraction of each class for validation; 0 for no such split, None for
            0.1.
        seed: decides the split and the order of the examples.
        bands: number of bands that was asked for; a file with an axis of more than 10 is an image
            only if these are its bands, else a stack of images, which is rejected.
        mixed_sizes: whether images of different sizes are resized all the same, which gives them
            different pixel scales.
        band_names: in the order of the files; None for those of the folder's `images.yaml`.
        pixel_scale_arcsec: of the files; None for that of `images.yaml`.
        resample_to_arcsec: pixel scale to which every image is resampled, see
            `resampling.resample_with_margin`; None for none.
        scale: of the values; None for min-max.
        catalog: table of the images, whose files are relative to `source`, see data/README.md; None
            for class folders, or the `labels.csv` beside images.
        catalog_columns: role -> name of the table's column for it, None for one not to be read;
            None for columns that are called as their roles.
        fits_hdu: number, from 0, or name of the HDU of FITS files; None for that of `images.yaml`,
            or the first one that is an image.
        hdf5_dataset: name of the array in HDF5 files; None for that of `images.yaml`, or the only
            one that may be of images.
        stacks: whether a `.npy` array of three or four axes is a stack of images; None for what
            `images.yaml` says, or false.
        band_files: pattern of the names of files that hold one band each, such as
            "{id}_{band}.fits", with the bands of `band_names`; None for what `images.yaml` says, or
            for files that hold all bands.
        strict: whether one file that is left out stops the preparation.
        progress: whether to show a progress bar on a terminal.
        jobs: number of processes that read images; the folder is the same for any number. They
            import the calling script, which must then do its work in `if __name__ == "__main__":`.

    Raises:
        RequestError: `source` does not exist, or `out` contains something else.
        DataError: the source's images cannot be used.
    """
    request = CatalogRequest.of(catalog, catalog_columns)
    settings = _settings(
        source,
        request,
        seed=seed,
        mixed_sizes=mixed_sizes,
        image_size=image_size,
        fit=fit,
        validation_fraction=validation_fraction,
        resample_to_arcsec=resample_to_arcsec,
        scale=scale,
        band_names=band_names,
        pixel_scale_arcsec=pixel_scale_arcsec,
        fits_hdu=fits_hdu,
        hdf5_dataset=hdf5_dataset,
        stacks=stacks,
        band_files=band_files,
    )
    options = ReadingOptions(bands, strict, progress, jobs)
    return _prepare(Path(source), request, Path(out), settings, options, replace=False)


def ensure_prepared(
    data: Path,
    cache: Path,
    *,
    image_size: int | None = None,
    fit: str | None = None,
    validation_fraction: float | None = None,
    seed: int,
    bands: int | None = None,
    mixed_sizes: bool = False,
    band_names: Sequence[str] | None = None,
    pixel_scale_arcsec: float | None = None,
    resample_to_arcsec: float | None = None,
    scale: ValueScale | None = None,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    fits_hdu: int | str | None = None,
    hdf5_dataset: str | None = None,
    stacks: bool | None = None,
    band_files: str | None = None,
    strict: bool = False,
    progress: bool = True,
    jobs: int = 1,
) -> Path:
    """Return a prepared folder for `data`: `data` itself if it is one, else one in `cache`.

    A folder in the cache is used until a file of the source changes. What is None is that of a
    prepared folder; for raw images see `prepare_folder`.

    Raises:
        RequestError: `data` does not exist, or was prepared with other settings.
        DataError: its images, or its shards, cannot be used.
    """
    request = CatalogRequest.of(catalog, catalog_columns)
    settings = _settings(
        data,
        request,
        seed=seed,
        mixed_sizes=mixed_sizes,
        image_size=image_size,
        fit=fit,
        validation_fraction=validation_fraction,
        resample_to_arcsec=resample_to_arcsec,
        scale=scale,
        band_names=band_names,
        pixel_scale_arcsec=pixel_scale_arcsec,
        fits_hdu=fits_hdu,
        hdf5_dataset=hdf5_dataset,
        stacks=stacks,
        band_files=band_files,
    )
    if is_prepared(data):
        _refuse_catalog(data, request)
        _check_prepared(data, settings, strict)
        return data
    options = ReadingOptions(bands, strict, progress, jobs)

    def prepared(how: PreparationSettings) -> Path:
        out = cache / _cache_name(data, how, request)
        _prepare(data, request, out, how, options, replace=True)
        return out

    if settings.scale.limits is not None:
        # The images that an encoder was trained on have its limits by themselves: they need not be
        # prepared once more for its fine-tuning.
        learning = replace(settings, scale=settings.scale.recipe)
        known = cache / _cache_name(data, learning, request)
        if _has_scale(known, settings.scale) and _has_scale(prepared(learning), settings.scale):
            return known
    return prepared(settings)


def _has_scale(folder: Path, scale: ValueScale) -> bool:
    """Return whether a folder is prepared with the limits of a scale, where these are given."""
    try:
        return is_prepared(folder) and Manifest.load(folder).scale.gives_same_values(scale)
    except DataError:  # damaged or of another version
        return False


def _settings(
    folder: str | Path, request: CatalogRequest, *, seed: int, mixed_sizes: bool, **given: Any
) -> PreparationSettings:
    """Return the settings of a preparation; what is None is the folder's own."""
    chosen = folder_settings(folder, given, request)
    return PreparationSettings(seed=seed, mixed_sizes=mixed_sizes, **chosen)


def _refuse_catalog(data: Path, request: CatalogRequest) -> None:
    if request != FOLDERS_ALONE:
        raise RequestError(
            f"{data}: prepared already, with the catalogue of its preparation: set "
            "data.catalog=null and data.catalog_columns={}, or give the images"
        )


def _cache_name(data: Path, settings: PreparationSettings, request: CatalogRequest) -> str:
    path = data.resolve()
    content = settings.to_dict()
    for key in LATER_SETTINGS:
        if not content[key]:  # as in earlier versions, which replaces their folders in the cache
            del content[key]
    identity = f"{str(path)!r} {sorted(content.items())}"
    if request != FOLDERS_ALONE:
        place = request.path and str(request.path.resolve())
        identity += f" {place!r} {sorted(request.columns.items())}"
    return f"{path.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _check_prepared(data: Path, settings: PreparationSettings, strict: bool) -> None:
    manifest = Manifest.load(data)
    has = manifest.settings | vars(manifest.scale)
    wants = vars(settings) | vars(settings.scale)
    for key in (*PREPARED_KEYS, *PROPERTY_KEYS, *SCALE_KEYS):
        found, wanted = has.get(key), wants[key]
        if found != wanted:
            shown = "null" if found is None else list(found) if key == "percentiles" else found
            raise RequestError(
                f"{data} was prepared with {key} {shown}, not {wanted}: "
                f"set data.{key}={shown}, or prepare the images again"
            )
    if settings.scale.limits and not manifest.scale.gives_same_values(settings.scale):
        raise RequestError(
            f"{data} was prepared with the scale {manifest.scale}, not {settings.scale}: "
            f"{OTHER_LIMITS}"
        )
    check_strict(data, manifest, strict)
    verify_shards(data, manifest)
    verify_texts(data, manifest)
    check_shards(data, manifest)


def _prepare(
    source: Path,
    request: CatalogRequest,
    out: Path,
    settings: PreparationSettings,
    options: ReadingOptions,
    *,
    replace: bool,
) -> Manifest:
    scanned = scan_folders(source, request)
    how = settings.selection
    folders = {split: with_rows(with_bands(each, how), how) for split, each in scanned.items()}
    check_outside(out, *(folder.root for folder in folders.values()))
    total = sum(len(folder.files) + len(folder.strays) for folder in folders.values())
    if options.jobs < 1:
        raise RequestError(f"jobs must be at least 1. Received: jobs={options.jobs}")
    with Workers(max(1, min(options.jobs, total // FILES_PER_PROCESS))) as workers:
        return _prepare_with(workers, folders, total, out, settings, options, replace=replace)


def _prepare_with(
    workers: Workers,
    folders: Folders,
    total: int,
    out: Path,
    settings: PreparationSettings,
    options: ReadingOptions,
    *,
    replace: bool,
) -> Manifest:
    known = read_records(out / RECORDS_FILE, total)
    state = source_state(folders, known, options.progress, workers)
    if is_current(out, settings, state.fingerprint):
        renew_records(out / RECORDS_FILE, known, state.records)
        return _load_current(out, options.strict)
    if not replace:
        check_free(out, settings)
    rejected = RejectedFiles(total)
    with draft_folder(out) as draft, _keep_list_on_failure(out, rejected):
        manifest, lines = write_draft(draft, folders, state, settings, options, rejected, workers)
        # Another process may have filled the cache in the meantime and be reading from it.
        if not replace:
            draft.rename(out)  # fails if `out` has been filled in the meantime
        elif not is_current(out, settings, state.fingerprint):
            replace_folder(draft, out)
    rejected.report(out)
    print_lines(*lines, *(notes(manifest) if replace else ()), stream=sys.stderr)
    return manifest


def _load_current(out: Path, strict: bool) -> Manifest:
    manifest = Manifest.load(out)
    check_strict(out, manifest, strict)
    left_out = manifest.rejected + sum(manifest.left_out.values())
    listed = (
        f"; {counted(left_out, 'file')} left out, see {out / REJECTED_FILE}" if left_out else ""
    )
    print_lines(f"{out}: up to date, kept{listed}")
    return manifest


@contextlib.contextmanager
def _keep_list_on_failure(out: Path, rejected: RejectedFiles) -> Iterator[None]:
    """Save the list of rejected files next to `out` if the preparation fails."""
    try:
        yield
    except DataError as error:
        if len(rejected.reasons) + len(rejected.left_out) < 2:  # the message names a single one
            raise
        path = out if out.name else out.absolute()
        listed = rejected.save(path.with_name(f"{path.name}-{REJECTED_FILE}"))
        raise DataError(f"{error}; all rejected files are listed in {listed}") from error
