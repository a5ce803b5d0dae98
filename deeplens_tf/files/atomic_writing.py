"""Files and folders that are complete or absent, even if the process is killed while writing.

Everything is written as a hidden draft beside its place and then renamed.
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
    """Write a file through a draft beside it; an existing file is replaced.

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
    """Yield the path of a draft; after the block it takes the place of `path`.

    Args:
        path: the file.
        suffix: ending of the draft's name, for writers that choose the format by it.
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
    """Write a file unless it exists; of several processes that try at once, one succeeds.

    Returns:
        Whether this call made the file.
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
    """Yield a new hidden folder beside `path`; it is removed after the block unless renamed."""
    draft = _hidden_folder(path)
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_folder(draft: Path, path: Path) -> None:
    """Rename a finished draft to `path`; an existing folder is removed after that.

    Raises:
        OSError: renaming failed; an existing folder is back in its place.
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


def sweep_partials(folder: Path) -> None:
    """Remove the drafts that killed processes left of files that are complete by now.

    Other processes may be writing into the folder: drafts of missing files stay.
    """
    for draft in folder.glob(f".*{PARTIAL_SUFFIX}"):
        name = draft.name[1:].removesuffix(PARTIAL_SUFFIX).rpartition(".")[0]
        if (folder / name).exists():
            draft.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove every draft of a file in a folder to which no other process is writing."""
    # The second pattern is the name that earlier versions gave to the draft of a model.
    for pattern in (f".*{PARTIAL_SUFFIX}*", f"{PARTIAL_SUFFIX}-*"):
        for draft in folder.glob(pattern):
            draft.unlink()


def partial_path(path: Path, suffix: str = "") -> Path:
    """Return the hidden name beside `path` under which this process writes its draft."""
    # The process id keeps two processes that write the same file apart.
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}{suffix}")


def _hidden_folder(path: Path) -> Path:
    # A random name, since one process may prepare the same folder twice at once.
    path = path.absolute()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def flush(file: BinaryIO) -> None:
    """Wait until the data written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: they are flushed separately."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` in the block into the package's error, naming `path`.

    Raises:
        ResourceError: for any `OSError`.
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
    """Add the file's name to an `OSError`: "no space left" comes without one."""
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
        # Another process completed the same file and swept this draft away.
        if not path.exists():
            raise


def _link(draft: Path, path: Path) -> bool:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links: there the last writer wins.
        draft.replace(path)
    return True
