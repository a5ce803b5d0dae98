"""Files and folders that are complete or absent, even if the process is killed while writing.

Everything is written to a hidden draft in the same folder and then renamed.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from deeplens_tf.errors import ResourceError

PARTIAL_SUFFIX = ".partial"


def write_whole(path: Path, write: Callable[[BinaryIO], object], durable: bool = False) -> None:
    """Write a file through a draft next to it; an existing file is replaced.

    Args:
        path: the file.
        write: writes the content to the open draft.
        durable: wait until the data is on the disk, so that it survives a power failure.

    Raises:
        OSError: writing failed; an existing file is unchanged.
    """
    with _named(path), draft_file(path, durable=durable) as draft, draft.open("wb") as file:
        write(file)


@contextlib.contextmanager
def draft_file(path: Path, suffix: str = "", durable: bool = False) -> Iterator[Path]:
    """Yield the path of a draft; after the block it replaces `path`.

    Args:
        path: the file.
        suffix: ending of the draft's name, for writers that derive the format from it.
        durable: wait until the data is on the disk.

    Raises:
        OSError: writing failed; an existing file is unchanged.
    """
    draft = partial_path(path, suffix)
    try:
        yield draft
        if durable:
            with draft.open("rb+") as file:
                flush(file)
        _move(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        flush_folder(path.parent)


def create_whole(path: Path, content: bytes) -> bool:
    """Write a file unless it exists; of several processes that try at once, exactly one succeeds.

    Returns:
        Whether this call created the file.
    """
    draft = partial_path(path)
    try:
        with _named(path):
            draft.write_bytes(content)
        return _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder next to `path`; it is removed after the block unless renamed.

    Raises:
        OSError: there can be no such folder, with the name of `path`.
    """
    draft = _hidden_folder(path)
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_folder(draft: Path, path: Path) -> None:
    """Rename a complete draft to `path`; an existing folder is removed afterwards.

    Raises:
        OSError: renaming failed; an existing folder is unchanged.
    """
    former = _hidden_folder(path)
    if path.exists():
        path.rename(former)
    try:
        draft.rename(path)
    except BaseException:
        if former.exists():
            former.rename(path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder as far as possible; if killed meanwhile, a hidden draft is left of it."""
    former = _hidden_folder(path)
    try:
        path.rename(former)
    except OSError:
        former = path
    shutil.rmtree(former, ignore_errors=True)


def sweep_partials(folder: Path) -> None:
    """Remove drafts that killed processes left, if their files have been completed since.

    Drafts of missing files stay, since other processes may be writing them.
    """
    for draft in folder.glob(f".*{PARTIAL_SUFFIX}"):
        name = draft.name[1:].removesuffix(PARTIAL_SUFFIX).rpartition(".")[0]
        if (folder / name).exists():
            draft.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove all drafts of files in a folder to which no other process is writing."""
    # The second pattern matches drafts of models that earlier versions wrote.
    for pattern in (f".*{PARTIAL_SUFFIX}*", f"{PARTIAL_SUFFIX}-*"):
        for draft in folder.glob(pattern):
            draft.unlink()


def partial_path(path: Path, suffix: str = "") -> Path:
    """Return the hidden path next to `path` to which this process writes its draft."""
    # The process id separates the drafts of two processes that write the same file.
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}{suffix}")


def _hidden_folder(path: Path) -> Path:
    # A random name, since one process may write the same folder twice at the same time.
    path = path.absolute()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def flush(file: BinaryIO) -> None:
    """Wait until the data written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the entries of a folder are on the disk, which flushing its files does not do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` in the block into a `ResourceError` that names `path`.

    Raises:
        ResourceError: the block raised an `OSError`.
    """
    try:
        yield
    except ResourceError:
        raise
    except OSError as error:
        # NumPy and HDF5 do not always set an error number.
        reason = error.strerror or str(error)
        raise ResourceError(f"{path}: cannot be written: {reason}") from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file's name to an `OSError` without one, such as "no space left"."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _move(draft: Path, path: Path) -> None:
    try:
        draft.replace(path)
    except FileNotFoundError:
        # Another process completed the same file and removed this draft.
        if not path.exists():
            raise


def _link(draft: Path, path: Path) -> bool:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:
        # On a file system without hard links the last writer wins.
        draft.replace(path)
    return True
