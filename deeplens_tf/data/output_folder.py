"""Whether a prepared folder may be written to a place, and whether it is up to date there."""

from pathlib import Path
from typing import Any

from deeplens_tf.data.manifest import Manifest, is_prepared
from deeplens_tf.data.shards import read_index, verify_shards
from deeplens_tf.errors import DataError, RequestError


def is_current(out: Path, settings: dict[str, Any], fingerprint: str) -> bool:
    """Tell whether `out` holds, undamaged, what would be prepared now."""
    if not is_prepared(out):
        return False
    try:
        manifest = Manifest.load(out)
        if manifest.fingerprint != fingerprint or manifest.settings != settings:
            return False
        verify_shards(out, manifest)
        for split in manifest.splits.values():
            read_index(out, split.name, split.count)
    except DataError:  # damaged or of another version: to be made again
        return False
    return True


def check_apart(out: Path, *sources: Path) -> None:
    """Refuse to write inside a folder of images, which is the user's.

    Raises:
        RequestError: `out` is a source folder or lies in one.
    """
    for source in sources:
        if out.resolve().is_relative_to(source.resolve()):
            raise RequestError(f"{out} lies inside {source}; prepared images go outside of it")


def check_free(out: Path, settings: dict[str, Any]) -> None:
    """Refuse to write over anything.

    Raises:
        RequestError: `out` is a file or a folder that is not empty.
    """
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out}: is a file; --out names a folder")
    if not out.exists() or not any(out.iterdir()):
        return
    what = f"another preparation ({_difference(out, settings)})" if is_prepared(out) else "files"
    raise RequestError(f"{out}: holds {what} already; remove it or choose another --out")


def _difference(out: Path, settings: dict[str, Any]) -> str:
    try:
        made = Manifest.load(out).settings
    except DataError:
        return "damaged"
    changed = [f"{key} {made.get(key)}" for key in settings if made.get(key) != settings[key]]
    return ", ".join(changed) or "of other source files"
