"""Checkpoints on disk: each a folder that is sealed by a manifest and moved into place whole.

    checkpoints/step-000000120/arrays.npz      every variable
                               state.json      where the training is, and what its callbacks know
                               model.keras     the product so far, where there is one
                               manifest.json   the size and the SHA-256 of the others

Knows nothing of Keras. Keras's own `BackupAndRestore` keeps neither the batch nor random state and
writes in place; `tf.train.Checkpoint` seals nothing.
"""

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

from deeplens_tf.atomic_files import flush, flush_folder, partial_path, writing
from deeplens_tf.errors import UnusableFile
from deeplens_tf.json_files import read_json
from deeplens_tf.terminal import say

ARRAYS = "arrays.npz"
STATE = "state.json"
MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{9,})(?:-(\d+))?")
FORMAT = 1
LARGEST_STATE_BYTES = 1 << 30  # the manifest has vouched for it by then

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
            SurroundingsError: it cannot be written; the earlier ones are untouched.
        """
        final = self._free_name(step)
        draft = partial_path(final)
        with writing(final):
            try:
                _write(draft, arrays, state, products)
                draft.rename(final)
                flush_folder(self.folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        self._prune()
        return final

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; say which ones are not, on stderr.

        Only the process that holds the run's lock may call this: it clears away what a killed
        one left half-written.
        """
        for leftover in self.folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for folder in self._folders():
            try:
                return _read(folder)
            except UnusableFile as error:
                self._damaged.add(folder)
                say(f"{folder}: damaged, {error}; an earlier one is tried", stream=sys.stderr)
        return None

    def _folders(self) -> list[Path]:
        """Return the folder of every checkpoint, damaged ones too, the newest first."""
        folders = [path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name)]
        return sorted(folders, key=_order, reverse=True)

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
    folder.mkdir(parents=True)
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


def _read(folder: Path) -> Checkpoint:
    try:
        for name, described in _manifest(folder).items():
            if described != _describe(folder / name):
                raise UnusableFile(f"{name} is not what was written")
        state = read_json(folder / STATE, LARGEST_STATE_BYTES)
        return Checkpoint(folder, dict(_arrays(folder / ARRAYS)), state)
    except OSError as error:
        raise UnusableFile(f"{error.strerror or error}: {error.filename}") from error
    except UnusableFile:
        raise
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnusableFile(f"not what this program writes: {error}") from error


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, dict):
        raise UnusableFile(f"{MANIFEST} is of another format")
    if not {ARRAYS, STATE} <= files.keys() or any(Path(name).name != name for name in files):
        raise UnusableFile(f"{MANIFEST} does not list a checkpoint's files")
    return files


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            yield key, archive[key]
