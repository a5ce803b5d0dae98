"""Files that are whole or absent, even when the process is killed while it writes."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from deeplens_tf.errors import ResourceError

PARTIAL_SUFFIX = ".partial"


def write_whole(path: Path, write: Callable[[BinaryIO], object], durable: bool = False) -> None:
    """Write a file under a temporary name beside it, then move it into place.

    Args:
        path: the file; what was there is replaced.
        write: writes the content to the open file.
        durable: wait until the disk has it, so that it outlives a loss of power too.

    Raises:
        OSError: it cannot be written; what was there is then still in place.
    """
    partial = partial_path(path)
    try:
        with _named(path), partial.open("wb") as file:
            write(file)
            if durable:
                flush(file)
        _move(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        flush_folder(path.parent)


def create_whole(path: Path, content: bytes) -> bool:
    """Write a file unless it is there; of many that try at once, one succeeds.

    Returns:
        Whether this call made the file.
    """
    partial = partial_path(path)
    try:
        with _named(path):
            partial.write_bytes(content)
        return _link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sweep_partials(folder: Path) -> None:
    """Remove what killed runs left half-written of files that are whole by now.

    Others may be writing into the folder: what they are about to complete stays.
    """
    for partial in folder.glob(f".*{PARTIAL_SUFFIX}"):
        whole = folder / partial.name[1:].removesuffix(PARTIAL_SUFFIX).rpartition(".")[0]
        if whole.exists():
            partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Return the hidden name beside `path` under which this process builds it."""
    # The process id keeps two runs that make the same file out of each other's way.
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")


def flush(file: BinaryIO) -> None:
    """Wait until the disk has what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder: a rename alone may come before or after."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a run writes one of its own files into the package's error.

    Raises:
        ResourceError: naming `path`, for any `OSError` in the block.
    """
    try:
        yield
    except ResourceError:
        raise
    except OSError as error:
        # NumPy and HDF5 say what is wrong, but not always by a number.
        reason = error.strerror or str(error)
        raise ResourceError(f"{path}: cannot be written: {reason}") from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of writing say of which file: a full disk is met without its name."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _move(partial: Path, path: Path) -> None:
    try:
        partial.replace(path)
    except FileNotFoundError:
        # A run that made the same file swept this copy away.
        if not path.exists():
            raise


def _link(partial: Path, path: Path) -> bool:
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links; the last writer wins there.
        partial.replace(path)
    return True
