"""Checkpoints on disk: each a folder that is sealed by a manifest and moved into place whole.

    checkpoints/step-000000120/arrays.npz      every variable
                               state.json      where the training is, and what its callbacks know
                               model.keras     the product so far, where there is one
                               manifest.json   the size and the SHA-256 of the others

Knows nothing of Keras. Keras's own `BackupAndRestore` keeps neither the batch nor random state and
writes in place; `tf.train.Checkpoint` seals nothing.
"""

import contextlib
import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplens_tf.errors import RequestError, ResourceError, UnusableFile
from deeplens_tf.files.atomic_writing import draft_folder, flush, flush_folder, writing
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.terminal import print_lines

ARRAYS = "arrays.npz"
STATE = "state.json"
MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{9,})(?:-(\d+))?")
FORMAT = 1  # of what is in a checkpoint; environment.json records it for the whole run
MAX_STATE_BYTES = 1 << 30  # the manifest has vouched for it by then

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: the variables by key, and the rest as plain data."""

    folder: Path
    arrays: Arrays
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: made when it is needed.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._damaged: set[Path] = set()

    def save(
        self, step: int, arrays: Arrays, state: Mapping[str, Any], products: Sequence[Path] = ()
    ) -> Path:
        """Write a checkpoint; the earlier ones stay until it is whole and on the disk.

        Args:
            step: optimiser steps done, which it is named for.
            arrays: the variables by key.
            state: plain data.
            products: files that belong to it; those that exist are kept with it.

        Raises:
            ResourceError: it cannot be written; the earlier ones are untouched.
        """
        final = self._free_name(step)
        with writing(final), draft_folder(final) as draft:
            _write(draft, arrays, state, products)
            draft.rename(final)
            flush_folder(self.folder)
        self._prune()
        return final

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; say which ones are not, on stderr.

        Only the process that holds the run's lock may call this: it clears away what a killed
        one left half-written.

        Raises:
            ResourceError: one cannot be read, which says nothing against what is in it.
            RequestError: one is of another format than this program writes.
        """
        newest = None
        for path in self._content():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
        # The older ones too: a damaged one must not count among those that are kept.
        for folder in self._folders():
            try:
                verified = _verified(folder)
                newest = newest or _read(verified)
            except UnusableFile as error:
                self._damaged.add(folder)
                instead = "the newer one is taken" if newest else "an earlier one is tried"
                print_lines(f"{folder}: damaged, {error}; {instead}", stream=sys.stderr)
        return newest

    def _folders(self) -> list[Path]:
        """Return the folder of every checkpoint, damaged ones too, the newest first."""
        folders = [path for path in self._content() if NAME.fullmatch(path.name)]
        return sorted(folders, key=_order, reverse=True)

    def _content(self) -> list[Path]:
        # Not by `glob`, to which a folder that cannot be read is an empty one.
        with _reading(self.folder):
            return list(self.folder.iterdir()) if self.folder.exists() else []

    def _free_name(self, step: int) -> Path:
        # Nothing is ever replaced: an epoch's last step is saved before its validation, too, and
        # a damaged one may be in the way.
        same = [_order(path)[1] for path in self._folders() if _order(path)[0] == step]
        return self.folder / (f"step-{step:09d}" + (f"-{max(same) + 1}" if same else ""))

    def _prune(self) -> None:
        # What is damaged must not take the place of a good one among those that stay.
        good = [folder for folder in self._folders() if folder not in self._damaged]
        for folder in [*good[self.keep :], *self._damaged]:
            shutil.rmtree(folder, ignore_errors=True)
        self._damaged.clear()


def _order(folder: Path) -> tuple[int, int]:
    step, attempt = NAME.fullmatch(folder.name).groups(default="0")
    return int(step), int(attempt)


def _write(
    folder: Path, arrays: Arrays, state: Mapping[str, Any], products: Sequence[Path]
) -> None:
    with (folder / ARRAYS).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        flush(file)
    _write_json(folder / STATE, state)
    for product in products:
        if product.exists():
            _link_or_copy(product, folder / product.name)
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"format": FORMAT, "files": files})
    flush_folder(folder)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())
        flush(file)


def _link_or_copy(source: Path, target: Path) -> None:
    # A product is replaced as a whole, never written to in place, so a link keeps this version.
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _verified(folder: Path) -> Path:
    """Return a checkpoint's folder if its files are those that its manifest seals.

    Raises:
        UnusableFile: they are not.
        ResourceError, RequestError: see `CheckpointStore.newest`.
    """
    with _reading(folder):
        for name, described in _manifest(folder).items():
            if described != _describe(folder / name):
                raise UnusableFile(f"{name} is not what was written")
    return folder


def _read(folder: Path) -> Checkpoint:
    with _reading(folder):
        state = read_json(folder / STATE, MAX_STATE_BYTES)
        return Checkpoint(folder, dict(_arrays(folder / ARRAYS)), state)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell a file that is damaged from one that the disk does not give out just now.

    Raises:
        UnusableFile: what is there is no checkpoint, or a file of it is missing.
        ResourceError: reading failed.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UnusableFile(f"{error.strerror}: {error.filename}") from error
    except ResourceError:
        raise
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be read: {error.strerror or error}; nothing is lost, try again when "
            "it can"
        ) from error
    except (UnusableFile, RequestError):
        raise
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnusableFile(f"not what this program writes: {error}") from error


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_json(folder / MANIFEST)
    found, files = manifest.get("format"), manifest.get("files")
    if type(found) is int and found != FORMAT:
        raise RequestError(
            f"{folder}: a checkpoint of format {found}, and this version reads format {FORMAT}: "
            "go on with the version that wrote it, or give --run-dir a new folder"
        )
    if found != FORMAT or not isinstance(files, dict):
        raise UnusableFile(f"{MANIFEST} is no checkpoint's")
    if not {ARRAYS, STATE} <= files.keys() or any(Path(name).name != name for name in files):
        raise UnusableFile(f"{MANIFEST} does not list a checkpoint's files")
    return files


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            yield key, archive[key]
