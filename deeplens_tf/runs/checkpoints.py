"""Checkpoints on disk: folders with checksums, each complete or absent.

    checkpoints/step-000000120/arrays.npz      all variables
                               state.json      the position in the training, state of callbacks
                               model.keras     the product so far, if there is one
                               manifest.json   size and SHA-256 of the other files

This module is independent of Keras. Keras's `BackupAndRestore` saves neither the batch nor the
random state and overwrites its file in place; `tf.train.Checkpoint` has no checksums.
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
from deeplens_tf.files.atomic_writing import (
    draft_folder,
    flush,
    flush_folder,
    remove_folder,
    writing,
)
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.terminal import print_lines

ARRAYS = "arrays.npz"
STATE = "state.json"
MANIFEST = "manifest.json"
CHECKPOINT_NAME = re.compile(r"step-(\d{9,})(?:-(\d+))?")
# Of a checkpoint's content and of what a step computes from it: a run is resumed only by versions
# that continue it as it began. environment.json records it for the run.
CHECKPOINT_FORMAT = 3
MAX_STATE_BYTES = 1 << 30  # its checksum is verified before it is read

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: the variables by key, and other state as plain data."""

    folder: Path
    arrays: Arrays
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: created by the first `save`.
        keep: how many of the newest checkpoints to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._damaged: set[Path] = set()

    def save(
        self, step: int, arrays: Arrays, state: Mapping[str, Any], products: Sequence[Path] = ()
    ) -> Path:
        """Write a checkpoint; earlier ones are removed only when it is complete on the disk.

        Args:
            step: number of optimiser steps done; the checkpoint is named after it.
            arrays: the variables by key.
            state: plain data.
            products: files that belong to the checkpoint; those that exist are copied into it.

        Raises:
            ResourceError: it cannot be written; earlier ones are unchanged.
        """
        final = self._free_name(step)
        with writing(final), draft_folder(final) as draft:
            _write(draft, arrays, state, products)
            draft.rename(final)
            flush_folder(self.folder)
        self._prune()
        return final

    def newest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, or None; report damaged ones on stderr.

        Only the process that holds the run's lock may call this: it removes incomplete
        checkpoints, which killed processes left.

        Raises:
            ResourceError: one cannot be read at the moment, so its content may be intact.
            RequestError: one has another format than this version reads.
        """
        newest = None
        for path in self._content():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
        # Older ones are verified too: a damaged one must not count among those to keep.
        for folder in self._folders():
            try:
                verified = _verified(folder)
                newest = newest or _read(verified)
            except UnusableFile as error:
                self._damaged.add(folder)
                instead = "using the newer one" if newest else "trying an earlier one"
                print_lines(f"{folder}: damaged, {error}; {instead}", stream=sys.stderr)
        return newest

    def _folders(self) -> list[Path]:
        """Return the folders of all checkpoints, including damaged ones, the newest first."""
        folders = [path for path in self._content() if CHECKPOINT_NAME.fullmatch(path.name)]
        return sorted(folders, key=_order, reverse=True)

    def _content(self) -> list[Path]:
        # Not with `glob`, which treats an unreadable folder as an empty one.
        with _reading(self.folder):
            return list(self.folder.iterdir()) if self.folder.exists() else []

    def _free_name(self, step: int) -> Path:
        # A checkpoint is never replaced. A step may have several: the last step of an epoch is
        # saved before and after validation, and a damaged checkpoint may have taken the name.
        same = [_order(path)[1] for path in self._folders() if _order(path)[0] == step]
        return self.folder / (f"step-{step:09d}" + (f"-{max(same) + 1}" if same else ""))

    def _prune(self) -> None:
        # A damaged checkpoint must not count among those to keep.
        good = [folder for folder in self._folders() if folder not in self._damaged]
        for folder in [*good[self.keep :], *self._damaged]:
            remove_folder(folder)
        self._damaged.clear()


def _order(folder: Path) -> tuple[int, int]:
    """Return the step of a checkpoint and its number among those of the same step."""
    step, _, number = folder.name.removeprefix("step-").partition("-")
    return int(step), int(number or 0)


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
    _write_json(folder / MANIFEST, {"format": CHECKPOINT_FORMAT, "files": files})
    flush_folder(folder)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())
        flush(file)


def _link_or_copy(source: Path, target: Path) -> None:
    # A product is never written to in place, only replaced, so a link keeps this version.
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _verified(folder: Path) -> Path:
    """Return a checkpoint's folder if its files match its manifest.

    Raises:
        UnusableFile: they do not.
        ResourceError, RequestError: see `CheckpointStore.newest`.
    """
    with _reading(folder):
        for name, described in _manifest(folder).items():
            if described != _describe(folder / name):
                raise UnusableFile(f"{name} does not match its checksum")
    return folder


def _read(folder: Path) -> Checkpoint:
    with _reading(folder):
        state = read_json(folder / STATE, MAX_STATE_BYTES)
        return Checkpoint(folder, dict(_arrays(folder / ARRAYS)), state)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Distinguish a damaged file from one that cannot be read at the moment.

    Raises:
        UnusableFile: the content is not a checkpoint's, or a file is missing.
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
            "it is readable"
        ) from error
    except (UnusableFile, RequestError):
        raise
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnusableFile(f"not a checkpoint: {error}") from error


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = read_json(folder / MANIFEST)
    found, files = manifest.get("format"), manifest.get("files")
    if type(found) is int and found != CHECKPOINT_FORMAT:
        raise RequestError(
            f"{folder}: a checkpoint of format {found}, but this version reads format "
            f"{CHECKPOINT_FORMAT}: resume with the version that wrote it, or give --run-dir a new "
            "folder"
        )
    if found != CHECKPOINT_FORMAT or not isinstance(files, dict):
        raise UnusableFile(f"{MANIFEST} is not a checkpoint's")
    if not {ARRAYS, STATE} <= files.keys() or any(Path(name).name != name for name in files):
        raise UnusableFile(f"{MANIFEST} does not list a checkpoint's files")
    return files


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            yield key, archive[key]
