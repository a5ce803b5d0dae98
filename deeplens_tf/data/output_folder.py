"""The state of an output folder: whether it is up to date, and whether it may be written."""

from pathlib import Path

from deeplens_tf.data.catalog_texts import verify_texts
from deeplens_tf.data.index_tables import read_index
from deeplens_tf.data.manifest import WITH_LEFT_OUT, Manifest, is_prepared
from deeplens_tf.data.preparation_settings import PreparationSettings
from deeplens_tf.data.shards import (
    verify_shards,
)
from deeplens_tf.errors import DataError, RequestError


def is_current(out: Path, settings: PreparationSettings, fingerprint: str) -> bool:
    """Return whether `out` contains, undamaged, what a preparation would write now."""
    if not is_prepared(out):
        return False
    try:
        manifest = Manifest.load(out)
        if manifest.format_version < WITH_LEFT_OUT:  # without the digests of its images
            return False
        if manifest.fingerprint != fingerprint or manifest.settings != settings.to_dict():
            return False
        verify_shards(out, manifest)
        verify_texts(out, manifest)
        for split in manifest.splits.values():
            read_index(out, split.name, split.count)
    except DataError:  # damaged or of another version: prepare again
        return False
    return True


def check_outside(out: Path, *sources: Path) -> None:
    """Refuse to write inside a user's folder of images.

    Raises:
        RequestError: `out` is a source folder or lies in one.
    """
    for source in sources:
        if out.resolve().is_relative_to(source.resolve()):
            raise RequestError(f"{out} lies inside {source}; choose a folder outside of it")


def check_free(out: Path, settings: PreparationSettings) -> None:
    """Refuse to overwrite anything.

    Raises:
        RequestError: `out` is a file or a folder that is not empty.
    """
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out}: is a file; --out must name a folder")
    if not out.exists() or not any(out.iterdir()):
        return
    what = f"another preparation ({_difference(out, settings)})" if is_prepared(out) else "files"
    raise RequestError(f"{out}: already contains {what}; remove it or choose another --out")


def _difference(out: Path, settings: PreparationSettings) -> str:
    try:
        manifest = Manifest.load(out)
    except DataError:
        return "damaged"
    if manifest.format_version < WITH_LEFT_OUT:
        return "by an earlier version"
    found = manifest.settings
    wanted = settings.to_dict()
    changed = [
        f"{key} {found.get(key)}"
        for key in (*wanted, *sorted(found.keys() - wanted.keys()))
        if found.get(key) != wanted.get(key)
    ]
    return ", ".join(changed) or "of other source files"
