"""The content of a prepared folder, written to a draft of it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from deeplens_tf.data.catalog_folders import why_left_out
from deeplens_tf.data.catalog_texts import texts_digests
from deeplens_tf.data.folders import SourceFolder
from deeplens_tf.data.formats.image_formats import mixed_text
from deeplens_tf.data.image_reader import ImageReader, Learnt, ReadAgain
from deeplens_tf.data.manifest import CatalogFacts, Manifest, Split, version_for
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.rejects import REJECTED_FILE, RejectedFiles
from deeplens_tf.data.relations import object_tables
from deeplens_tf.data.shards import SplitWriter, write_splits
from deeplens_tf.data.source_files import RECORDS_FILE, SourceState, save_records
from deeplens_tf.data.source_folders import (
    Folders,
    kept_columns,
    shown_name,
    with_common_classes,
)
from deeplens_tf.errors import DataError
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.preprocessing.data_interval import Measuring, learnt_limits
from deeplens_tf.process_pool import Workers


@dataclass(frozen=True)
class ReadingOptions:
    """What does not change a prepared folder, only whether it can be written.

    Attributes:
        bands: number of bands that was asked for, see `read_image`.
        strict: whether a file that is left out stops the preparation.
        progress: whether to show a progress bar on a terminal.
        jobs: number of processes that read images.
    """

    bands: int | None
    strict: bool
    progress: bool
    jobs: int


def write_draft(
    draft: Path,
    folders: Folders,
    state: SourceState,
    settings: PreparationSettings,
    options: ReadingOptions,
    rejected: RejectedFiles,
    workers: Workers,
) -> tuple[Manifest, list[str]]:
    """Write shards, indices, the list of rejected files and the manifest.

    Args:
        draft: an empty folder.
        folders: as they were scanned.
        state: of their files.
        settings: of the preparation.
        options: of reading.
        rejected: collects the files that are left out.
        workers: read the files.

    Returns:
        The manifest, and what a user should know of the images, one line each.

    Raises:
        DataError: too many files are unusable, a class has no usable image, or the images differ
            in their number of bands or in size.
    """
    reader, splits = _write_splits(draft, folders, settings, options, rejected, workers)
    rejected.check(options.strict)
    _check_classes(folders["train"], splits, rejected)
    if "test" in folders and "test" not in splits:
        splits["test"] = _empty_test_split(draft, folders, rejected)
    rejected.save(draft / REJECTED_FILE)
    save_records(draft / RECORDS_FILE, state.records)
    manifest = Manifest(
        classes=folders["train"].classes,
        image_shape=(settings.image_size, settings.image_size, reader.bands),
        splits=splits,
        fingerprint=state.fingerprint,
        settings=settings.to_dict(),
        rejected=len(rejected),
        left_out=dict(rejected.kinds),
        duplicates=dict(rejected.duplicates),
        groups=reader.group_counts,
        objects=reader.object_counts,
        passed_over=_passed_over(folders),
        bands_left_out=tuple(sorted(reader.learnt.left_out_bands or ())),
        pixel_scale_arcsec=reader.pixel_scale_arcsec,
        resampled_from_arcsec=reader.resampled_from_arcsec,
        source_side=reader.source_side,
        band_names=reader.band_names,
        nan_filled=dict(reader.nan_filled),
        scale_limits=reader.settings.scale.limits,
        catalog=_catalog_facts(draft, folders, splits),
        format_version=version_for(
            with_objects=_have_objects(folders),
            newer="scale" in settings.to_dict() or any(each.catalog for each in folders.values()),
            scale=settings.scale,
        ),
    )
    manifest.save(draft)
    mixed = mixed_text(file.file_name for folder in folders.values() for file in folder.files)
    return manifest, [mixed] * bool(mixed) + reader.notes() + _split_notes(folders["train"])


def _split_notes(train: SourceFolder) -> list[str]:
    if train.catalog is None or not train.catalog.names_validation:
        return []
    name = train.catalog.path.name
    return [f"{name}: names the validation images, so data.validation_fraction is not used"]


def _write_splits(
    draft: Path,
    folders: Folders,
    settings: PreparationSettings,
    options: ReadingOptions,
    rejected: RejectedFiles,
    workers: Workers,
) -> tuple[ImageReader, dict[str, Split]]:
    """Read and write all images, again whenever one file changes what holds for others."""
    learnt = Learnt()
    while True:
        shutil.rmtree(draft)
        draft.mkdir()
        try:
            complete = _with_limits(folders, settings, learnt, options, rejected, workers)
            known = _reject_unread(folders, rejected)
            reader = ImageReader(rejected, complete, learnt, workers, bands=options.bands)
            with _bar(known, options) as bar:
                examples = reader.read_splits(known, bar.update)
                classes, with_objects = known["train"].classes, _have_objects(folders)
                columns = kept_columns(folders)
                return reader, write_splits(draft, classes, examples, with_objects, columns)
        except ReadAgain:
            continue


def _bar(folders: Folders, options: ReadingOptions, text: str | None = None) -> tqdm:
    total = sum(len(folder.files) for folder in folders.values())
    return tqdm(total=total, desc=text, unit="image", disable=None if options.progress else True)


def _with_limits(
    folders: Folders,
    settings: PreparationSettings,
    learnt: Learnt,
    options: ReadingOptions,
    rejected: RejectedFiles,
    workers: Workers,
) -> PreparationSettings:
    """Return the settings with the limits of their scale, learnt from the training images.

    All images are read, since others decide which are for training; none but these are measured.
    """
    if not settings.scale.lacks_limits:
        return settings
    known = _reject_unread(folders, rejected)
    framing = Measuring.like(settings.framing, len(known["train"].files))
    reader = ImageReader(rejected, settings, learnt, workers, bands=options.bands, framing=framing)
    with _bar(known, options, "measuring") as bar:
        found = reader.read_splits(known, bar.update)
        measures = [example.image for split, example in found if split == "train"]
    root = folders["train"].root
    if not measures:
        raise DataError(f"{root}: no usable image in it; {rejected}")
    try:
        limits = learnt_limits(measures, settings.scale)
    except ValueError as error:
        raise DataError(f"{root}: {error}") from error
    return replace(settings, scale=replace(settings.scale, limits=limits))


def _reject_unread(folders: Folders, rejected: RejectedFiles) -> Folders:
    """Begin the list with the files that are not read; return the folders with those that are."""
    rejected.clear()
    for split, folder in folders.items():
        for name in folder.strays:
            shown = shown_name(split, folder, name)
            if folder.catalog is None:
                rejected.add(shown, "not in a class folder")
            else:
                rejected.leave_out(shown, *why_left_out(folder.catalog, name), split)
    known, foreign = with_common_classes(folders)
    classes = ", ".join(folders["train"].classes)
    for file in foreign:
        name = shown_name("test", folders["test"], file.name)
        has_class = file.label != UNLABELLED
        reason = "its class is none of training" if has_class else "not in a folder of a class"
        rejected.leave_out(name, "class", f"{reason}: {classes}", "test")
    return known


def _have_objects(folders: Folders) -> bool:
    return any(
        object_tables(folder.root) or (folder.catalog and folder.catalog.objects)
        for folder in folders.values()
    )


def _catalog_facts(draft: Path, folders: Folders, splits: dict[str, Split]) -> CatalogFacts | None:
    catalog = folders["train"].catalog
    if catalog is None:
        return None
    return catalog.facts(texts_digests(draft, splits) if catalog.kept else {})


def _check_classes(train: SourceFolder, splits: dict[str, Split], rejected: RejectedFiles) -> None:
    if "train" not in splits:
        raise DataError(f"{train.root}: no usable image in it; {rejected}")
    for name, count in splits["train"].per_class.items():
        if not count:
            raise DataError(f"{train.root / name}: no usable image in it; {rejected}")


def _empty_test_split(draft: Path, folders: Folders, rejected: RejectedFiles) -> Split:
    """Return a split without images, for a test folder whose images are all left out.

    It does not stop a pretraining; scoring it is an error.
    """
    if not rejected.has_left_out_tests:
        raise DataError(f"{folders['test'].root}: no usable image in it; {rejected}")
    classes, with_objects = folders["train"].classes, _have_objects(folders)
    return SplitWriter(draft, "test", classes, with_objects, kept_columns(folders)).finish()


def _passed_over(folders: Folders) -> dict[str, int]:
    counts: dict[str, int] = {}
    for folder in folders.values():
        for kind, count in folder.passed_over.items():
            counts[kind] = counts.get(kind, 0) + count
    return counts
