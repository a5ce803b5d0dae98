"""From a folder of images to a prepared folder: shards, an index per split, a manifest."""

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from deeplens_tf.data.folder_settings import size_and_fit
from deeplens_tf.data.folders import find_test_folder, fingerprint, scan_folder
from deeplens_tf.data.image_reader import Folders, ImageReader, shown_name
from deeplens_tf.data.manifest import Manifest, PreparationSettings, Split, is_prepared
from deeplens_tf.data.output_folder import check_free, check_outside, is_current
from deeplens_tf.data.rejects import REJECTED_FILE, RejectedFiles, check_strict
from deeplens_tf.data.shard_checks import check_shards
from deeplens_tf.data.shards import verify_shards, write_splits
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.terminal import print_lines, printable


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    image_size: int | None = None,
    fit: str | None = None,
    validation_fraction: float,
    seed: int,
    strict: bool = False,
    progress: bool = True,
) -> Manifest:
    """Prepare the images of `source`, and of `<source>_test`, in the new folder `out`.

    Args:
        source: folder of class folders, or of unlabelled images. It is not changed.
        out: written completely or not at all; kept if it is up to date. If too many files are
            rejected, `<out>-rejected.csv` next to it lists them.
        image_size: side of the prepared images in pixels; None for 64.
        fit: "resize" or "crop", see `scaling.resize_and_scale`; None for "resize".
        validation_fraction: fraction of each class for validation; 0 for no such split.
        seed: decides the split and the order of the examples.
        strict: whether one unusable file stops the preparation.
        progress: whether to show a progress bar on a terminal.

    Raises:
        RequestError: `source` does not exist, or `out` contains something else.
        DataError: the source's images cannot be used.
    """
    size, fit = size_and_fit(Path(source), image_size, fit)
    settings = PreparationSettings(size, fit, validation_fraction, seed)
    return _prepare(
        Path(source), Path(out), settings, strict=strict, progress=progress, replace=False
    )


def summarise(manifest: Manifest, out: Path) -> str:
    """Return the content of a prepared folder as text, one line for each split."""
    height, width, bands = manifest.image_shape
    lines = [
        f"{printable(out)}: images of {height} x {width} pixels, {bands} band{'s' * (bands > 1)}"
    ]
    for split in manifest.splits.values():
        counts = ", ".join(f"{printable(name)} {count}" for name, count in split.per_class.items())
        masses = f"; {split.masses} with a mass" if split.masses else ""
        lines.append(f"  {split.name}: {split.count} ({counts or 'unlabelled'}{masses})")
    return "\n".join(lines)


def ensure_prepared(
    data: Path,
    cache: Path,
    *,
    image_size: int | None = None,
    fit: str | None = None,
    validation_fraction: float,
    seed: int,
    strict: bool = False,
    progress: bool = True,
) -> Path:
    """Return a prepared folder for `data`: `data` itself if it is one, else one in `cache`.

    A folder in the cache is used until a file of the source changes. None for `image_size` or
    `fit` is that of a prepared folder; for raw images see `prepare_folder`.

    Raises:
        RequestError: `data` does not exist, or was prepared with another image_size or fit.
        DataError: its images, or its shards, cannot be used.
    """
    size, fit = size_and_fit(data, image_size, fit)
    settings = PreparationSettings(size, fit, validation_fraction, seed)
    if is_prepared(data):
        _check_prepared(data, settings, strict)
        return data
    out = cache / _cache_name(data, settings)
    _prepare(data, out, settings, strict=strict, progress=progress, replace=True)
    return out


def _cache_name(data: Path, settings: PreparationSettings) -> str:
    path = data.resolve()
    content = asdict(settings)
    if not settings.margin:  # as in earlier versions, whose folders in the cache are still right
        del content["margin"]
    identity = f"{str(path)!r} {sorted(content.items())}"
    return f"{path.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _check_prepared(data: Path, settings: PreparationSettings, strict: bool) -> None:
    manifest = Manifest.load(data)
    for key in ("image_size", "fit"):
        found, wanted = manifest.settings.get(key), getattr(settings, key)
        if found != wanted:
            raise RequestError(
                f"{data} was prepared with {key} {found}, not {wanted}: "
                f"set data.{key}={found}, or prepare the images again"
            )
    check_strict(data, manifest, strict)
    verify_shards(data, manifest)
    check_shards(data, manifest)


def _prepare(
    source: Path,
    out: Path,
    settings: PreparationSettings,
    *,
    strict: bool,
    progress: bool,
    replace: bool,
) -> Manifest:
    folders = _scan(source)
    check_outside(out, *(folder.root for folder in folders.values()))
    source_digest = fingerprint(*folders.values())
    if is_current(out, settings, source_digest):
        return _load_current(out, strict)
    if not replace:
        check_free(out, settings)
    rejected = _reject_strays(folders)
    with draft_folder(out) as draft, _keep_list_on_failure(out, rejected):
        manifest = _write(folders, draft, settings, source_digest, rejected, strict, progress)
        # Another process may have filled the cache in the meantime and be reading from it.
        if not replace:
            draft.rename(out)  # fails if `out` has been filled in the meantime
        elif not is_current(out, settings, source_digest):
            replace_folder(draft, out)
    rejected.report(out)
    return manifest


def _scan(source: Path) -> Folders:
    if is_prepared(source):
        raise RequestError(f"{source}: is a prepared folder already; give a folder of images")
    folders = {"train": scan_folder(source)}
    if test := find_test_folder(source):
        folders["test"] = scan_folder(test)
        classes, found = (", ".join(f.classes) or "none" for f in folders.values())
        if found != classes:
            raise DataError(f"{test}: its classes ({found}) differ from {source} ({classes})")
    return folders


def _load_current(out: Path, strict: bool) -> Manifest:
    manifest = Manifest.load(out)
    check_strict(out, manifest, strict)
    rejected = f"; {manifest.rejected} files rejected, see {out / REJECTED_FILE}"
    print_lines(f"{out}: up to date, kept{rejected if manifest.rejected else ''}")
    return manifest


def _reject_strays(folders: Folders) -> RejectedFiles:
    rejected = RejectedFiles(sum(len(f.files) + len(f.strays) for f in folders.values()))
    for split, folder in folders.items():
        for name in folder.strays:
            rejected.add(shown_name(split, folder, name), "not in a class folder")
    return rejected


@contextlib.contextmanager
def _keep_list_on_failure(out: Path, rejected: RejectedFiles) -> Iterator[None]:
    """Save the list of rejected files next to `out` if the preparation fails."""
    try:
        yield
    except DataError as error:
        if len(rejected) < 2:  # the message names a single one
            raise
        path = out if out.name else out.absolute()
        listed = rejected.save(path.with_name(f"{path.name}-{REJECTED_FILE}"))
        raise DataError(f"{error}; all rejected files are listed in {listed}") from error


def _write(
    folders: Folders,
    draft: Path,
    settings: PreparationSettings,
    source_digest: str,
    rejected: RejectedFiles,
    strict: bool,
    progress: bool,
) -> Manifest:
    reader, splits = _write_splits(folders, draft, settings, rejected, progress)
    if uneven := reader.folders_missing_masses():
        # Only the last file of a class may show that its files need a mass.
        shutil.rmtree(draft)
        draft.mkdir()
        reader, splits = _write_splits(folders, draft, settings, rejected, progress, uneven)
    rejected.check(strict)
    _check_classes(folders, splits, rejected)
    rejected.save(draft / REJECTED_FILE)
    manifest = Manifest(
        classes=folders["train"].classes,
        image_shape=(settings.image_size, settings.image_size, reader.bands),
        splits=splits,
        fingerprint=source_digest,
        settings=asdict(settings),
        rejected=len(rejected),
    )
    manifest.save(draft)
    return manifest


def _write_splits(
    folders: Folders,
    draft: Path,
    settings: PreparationSettings,
    rejected: RejectedFiles,
    progress: bool,
    mass_required: Collection[Path] = (),
) -> tuple[ImageReader, dict[str, Split]]:
    reader = ImageReader(rejected, settings, mass_required)
    total = sum(len(folder.files) for folder in folders.values())
    with tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        examples = reader.read_splits(folders, bar.update)
        return reader, write_splits(draft, folders["train"].classes, examples)


def _check_classes(folders: Folders, splits: dict[str, Split], rejected: RejectedFiles) -> None:
    for split, folder in folders.items():
        if split not in splits:
            raise DataError(f"{folder.root}: no usable image in it; {rejected}")
        for name in folder.classes:
            if not splits[split].per_class[name]:
                raise DataError(f"{folder.root / name}: no usable image in it; {rejected}")
