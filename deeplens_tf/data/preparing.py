"""From a folder of images to a prepared folder: shards, a table of each split, a manifest."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deeplens_tf.data.folders import SourceFolder, find_test_folder, fingerprint, scan_folder
from deeplens_tf.data.image_reader import ImageReader, name_beside, test_examples, training_examples
from deeplens_tf.data.manifest import Manifest, Split, is_prepared
from deeplens_tf.data.output_folder import (
    check_apart,
    check_free,
    is_current,
)
from deeplens_tf.data.rejects import FILE, Rejects, check_strict
from deeplens_tf.data.shard_checks import examine
from deeplens_tf.data.shards import Example, verify_shards, write_splits
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import draft_folder, replace_folder
from deeplens_tf.terminal import print_lines

Folders = dict[str, SourceFolder]  # "train", and "test" where there is one


def prepare_folder(
    source: Path,
    out: Path,
    *,
    image_size: int,
    fit: str,
    validation_fraction: float,
    seed: int,
    strict: bool = False,
    progress: bool = True,
) -> Manifest:
    """Prepare the images of `source`, and of `<source>_test`, in the new folder `out`.

    Args:
        source: folder of class folders, or of unlabelled images. Nothing in it is changed.
        out: written whole or not at all; kept as it is when it is up to date already. Where too
            much is rejected, `<out>-rejected.csv` beside it lists what.
        image_size: side of the prepared images in pixels.
        fit: "resize" or "crop", see `files.conform`.
        validation_fraction: share of each class that is kept for validation; 0 for no such split.
        seed: decides the split and the order of the examples.
        strict: whether one unusable file ends the preparation.
        progress: whether to show a bar on a terminal.

    Raises:
        RequestError: no such source, or an `out` that holds something else.
        DataError: the source's images cannot be used.
    """
    settings = _settings(image_size, fit, validation_fraction, seed)
    return _prepare(source, out, settings, strict=strict, progress=progress, replace=False)


def ensure_prepared(
    data: Path,
    cache: Path,
    *,
    image_size: int,
    fit: str,
    validation_fraction: float,
    seed: int,
    strict: bool = False,
    progress: bool = True,
) -> Path:
    """Return a prepared folder for `data`: itself if it is one, else one in `cache`.

    What is in the cache is used for as long as the source's files stay as they are.

    Raises:
        RequestError: `data` is not there, or was prepared with another image_size or fit.
        DataError: its images, or its shards, cannot be used.
    """
    settings = _settings(image_size, fit, validation_fraction, seed)
    if is_prepared(data):
        _check_prepared(data, settings, strict)
        return data
    out = cache / _cache_name(data, settings)
    _prepare(data, out, settings, strict=strict, progress=progress, replace=True)
    return out


def _settings(
    image_size: int, fit: str, validation_fraction: float, seed: int
) -> dict[str, int | float | str]:
    return {
        "image_size": image_size,
        "fit": fit,
        "validation_fraction": validation_fraction,
        "seed": seed,
    }


def _cache_name(data: Path, settings: dict[str, Any]) -> str:
    place = data.resolve()
    digest = hashlib.sha256(f"{str(place)!r} {sorted(settings.items())}".encode()).hexdigest()
    return f"{place.name}-{digest[:12]}"


def _check_prepared(data: Path, settings: dict[str, Any], strict: bool) -> None:
    manifest = Manifest.load(data)
    for key in ("image_size", "fit"):
        made, asked = manifest.settings.get(key), settings[key]
        if made != asked:
            raise RequestError(
                f"{data} was prepared with {key} {made}, not {asked}: "
                f"set data.{key}={made}, or prepare the images again"
            )
    check_strict(data, manifest, strict)
    verify_shards(data, manifest)
    examine(data, manifest)


def _prepare(
    source: Path,
    out: Path,
    settings: dict[str, Any],
    *,
    strict: bool,
    progress: bool,
    replace: bool,
) -> Manifest:
    folders = _survey(source)
    check_apart(out, *(folder.root for folder in folders.values()))
    source_print = fingerprint(*folders.values())
    if is_current(out, settings, source_print):
        return _keep(out, strict)
    if not replace:
        check_free(out, settings)
    rejects = Rejects(sum(len(f.files) + len(f.strays) for f in folders.values()))
    with draft_folder(out) as draft, _listed_beside(out, rejects):
        manifest = _write(folders, draft, settings, source_print, rejects, strict, progress)
        # Another run may have filled the cache meanwhile and be reading from it.
        if not (replace and is_current(out, settings, source_print)):
            replace_folder(draft, out)
    rejects.report(out)
    return manifest


def _survey(source: Path) -> Folders:
    if is_prepared(source):
        raise RequestError(f"{source}: is prepared already; what is needed is a folder of images")
    folders = {"train": scan_folder(source)}
    if test := find_test_folder(source):
        folders["test"] = scan_folder(test)
        ours, theirs = (", ".join(f.classes) or "none" for f in folders.values())
        if ours != theirs:
            raise DataError(f"{test}: its classes ({theirs}) are not those of {source} ({ours})")
    return folders


def _keep(out: Path, strict: bool) -> Manifest:
    manifest = Manifest.load(out)
    check_strict(out, manifest, strict)
    rejected = f"; {manifest.rejected} files rejected, see {out / FILE}" * (manifest.rejected > 0)
    print_lines(f"{out}: up to date, kept{rejected}")
    return manifest


@contextlib.contextmanager
def _listed_beside(out: Path, rejects: Rejects) -> Iterator[None]:
    """Keep the list of what was rejected where that ends a preparation of which nothing stays."""
    try:
        yield
    except DataError as error:
        if len(rejects) < 2:  # a single one is named in the line
            raise
        beside = out if out.name else out.absolute()
        listed = rejects.save(beside.with_name(f"{beside.name}-{FILE}"))
        raise DataError(f"{error}; all rejected files are listed in {listed}") from error


def _write(
    folders: Folders,
    draft: Path,
    settings: dict[str, Any],
    source_print: str,
    rejects: Rejects,
    strict: bool,
    progress: bool,
) -> Manifest:
    _reject_strays(folders, rejects)
    reader = ImageReader(rejects, settings["image_size"], settings["fit"])
    splits = _write_splits(folders, draft, reader, settings, progress)
    if uneven := reader.folders_missing_masses():
        # That a class has masses may be known when its last file is read, and then all need one.
        shutil.rmtree(draft)
        draft.mkdir()
        reader = ImageReader(rejects, settings["image_size"], settings["fit"], uneven)
        splits = _write_splits(folders, draft, reader, settings, progress)
    rejects.judge(strict)
    _check_classes(folders, splits, rejects)
    rejects.save(draft / FILE)
    manifest = Manifest(
        classes=folders["train"].classes,
        image_shape=reader.image_shape,
        splits=splits,
        fingerprint=source_print,
        settings=settings,
        rejected=len(rejects),
    )
    manifest.save(draft)
    return manifest


def _write_splits(
    folders: Folders, draft: Path, reader: ImageReader, settings: dict[str, Any], progress: bool
) -> dict[str, Split]:
    total = sum(len(folder.files) for folder in folders.values())
    with tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        examples = _examples(folders, reader, settings, bar.update)
        return write_splits(draft, folders["train"].classes, examples)


def _reject_strays(folders: Folders, rejects: Rejects) -> None:
    for split, folder in folders.items():
        for name in folder.strays:
            shown = name if split == "train" else name_beside(folder, name)
            rejects.add(shown, "lies beside the class folders, not in one")


def _examples(
    folders: Folders, reader: ImageReader, settings: dict[str, Any], step: Callable[[], object]
) -> Iterator[tuple[str, Example]]:
    fraction, seed = settings["validation_fraction"], settings["seed"]
    examples = training_examples(folders["train"], reader, fraction, seed, step)
    if "test" in folders:
        return chain(examples, test_examples(folders["test"], reader, seed, step))
    return examples


def _check_classes(folders: Folders, splits: dict[str, Split], rejects: Rejects) -> None:
    for split, folder in folders.items():
        if split not in splits:
            raise DataError(f"{folder.root}: no usable image in it; {rejects}")
        for name in folder.classes:
            if not splits[split].per_class[name]:
                raise DataError(f"{folder.root / name}: no usable image in it; {rejects}")
