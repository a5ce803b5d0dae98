"""The state of the files that a prepared folder is made from: a digest of their content.

Reading all files only to learn that nothing has changed takes long. The prepared folder therefore
records the status of each file with its digest. A file is not read again if its size, both its
times and its inode are the recorded ones, and if it was last changed well before it was read:
within the resolution of the times, a later change would leave no trace in them.
"""

import contextlib
import csv
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from pathlib import Path

from tqdm import tqdm

from deeplens_tf.data.image_files import MAX_STACK_FILE_BYTES
from deeplens_tf.data.index_tables import MAX_ROW_BYTES
from deeplens_tf.data.mass_tables import mass_files
from deeplens_tf.data.relations import GROUPS_FILE, object_tables
from deeplens_tf.data.source_folders import Folders, SourceFolder
from deeplens_tf.files.atomic_writing import draft_file
from deeplens_tf.process_pool import IN_THIS_PROCESS, Workers

RECORDS_FILE = "source-files.csv"
FOLDER_TABLES = (GROUPS_FILE, "images.yaml")
RESOLUTION_NS = 2 * 10**9  # of the times in the coarsest file systems
UNREADABLE = ""  # instead of a digest: a broken link, a pipe, a file that is too large

FILES_PER_DIGEST_TASK = 64  # that a worker process digests at once
_CHUNK_BYTES = 1 << 20  # of a file, read at once
MAX_TABLES = 1000  # that have a record, apart from images


@dataclass(frozen=True)
class FileRecord:
    """The status of a file when it was read, the SHA-256 of its bytes, and when that was."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str
    checked_ns: int

    @property
    def lasts(self) -> bool:
        """Whether an equal status later proves that the file has not changed."""
        return self.sha256 != UNREADABLE and self.ctime_ns <= self.checked_ns - RESOLUTION_NS

    def has_status(self, status: os.stat_result) -> bool:
        """Return whether size, times and inode are those of the record."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == _status(status)


Records = Mapping[str, FileRecord]


@dataclass(frozen=True)
class SourceState:
    """The content of source folders.

    Attributes:
        fingerprint: a digest of classes, file names and contents, not of times or places.
        records: of each file, by its name in messages.
    """

    fingerprint: str
    records: Records


def source_state(
    folders: Folders,
    known: Records,
    progress: bool = False,
    workers: Workers = IN_THIS_PROCESS,
) -> SourceState:
    """Digest images, tables of masses, groups and objects, and `images.yaml` of source folders.

    Args:
        folders: as they were scanned.
        known: records of an earlier call; files that have their status are not read.
        progress: whether to show a progress bar on a terminal.
        workers: read the files.
    """
    digest, records = hashlib.sha256(), {}
    files = [entry for split, folder in folders.items() for entry in _files(split, folder)]
    lasting = {name for name, path in files if _is_unchanged(path, known.get(name))}
    read = _new_records([path for name, path in files if name not in lasting], workers)
    bar = tqdm(files, "checking", unit="file", leave=False, disable=None if progress else True)
    for name, _ in bar:
        records[name] = known[name] if name in lasting else next(read)
        digest.update(f"{name!r} {records[name].sha256}\n".encode())
    for folder in folders.values():
        digest.update(repr(folder.classes).encode())
        if folder.catalog is not None:
            digest.update(repr(sorted(folder.catalog.roles.items())).encode())
    return SourceState(digest.hexdigest(), records)


def save_records(path: Path, records: Records) -> None:
    """Write the records of files; an existing file is replaced."""
    with (
        draft_file(path) as draft,
        draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["name", *(field.name for field in fields(FileRecord))])
        columns = attrgetter(*(field.name for field in fields(FileRecord)))  # faster than astuple
        rows.writerows([name, *columns(record)] for name, record in records.items())


def read_records(path: Path, count: int) -> Records:
    """Return the records of about `count` files; none if they are missing or damaged."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_ROW_BYTES * (count + MAX_TABLES):
            return {}
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            next(rows, None)
            return {name: _parse(values) for name, *values in rows}
    except (OSError, ValueError, csv.Error):
        return {}


def renew_records(path: Path, known: Records, records: Records) -> None:
    """Replace the records where the new ones spare reading; a read-only folder keeps the old."""
    if any(record.lasts and known.get(name) != record for name, record in records.items()):
        with contextlib.suppress(OSError):
            save_records(path, records)


def _files(split: str, folder: SourceFolder) -> Iterator[tuple[str, Path]]:
    paths = {name: path for file in folder.files for name, path in file.sources.items()}
    names = [*folder.strays]
    for name in folder.image_folders:
        names += [f"{name}/{table.name}" for table in mass_files(folder.root / name)]
    names += [name for name in FOLDER_TABLES if os.path.lexists(folder.root / name)]
    names += [table.name for table in object_tables(folder.root)]
    paths |= {name: folder.root / name for name in names}
    if folder.catalog is not None:  # which need not lie in the folder
        paths["data.catalog"] = folder.catalog.path
    yield from ((f"{split}/{name}", path) for name, path in sorted(paths.items()))


def _is_unchanged(path: Path, known: FileRecord | None) -> bool:
    if known is None or not known.lasts:
        return False
    try:
        return known.has_status(path.stat())
    except OSError:
        return False


def _new_records(paths: Sequence[Path], workers: Workers) -> Iterator[FileRecord]:
    firsts = range(0, len(paths), FILES_PER_DIGEST_TASK)
    tasks = ([*map(str, paths[first : first + FILES_PER_DIGEST_TASK])] for first in firsts)
    return chain.from_iterable(workers.map(_records, tasks))


def _records(paths: Sequence[str]) -> list[FileRecord]:
    return [_record(Path(path)) for path in paths]


def _record(path: Path) -> FileRecord:
    checked_ns = time.time_ns()
    try:
        status = path.stat()
        sha256 = _sha256(path, status)
    except OSError:
        return FileRecord(0, 0, 0, 0, UNREADABLE, checked_ns)
    return FileRecord(*_status(status), sha256, checked_ns)


def _sha256(path: Path, status: os.stat_result) -> str:
    # Opening a pipe would wait forever.
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_STACK_FILE_BYTES:
        return UNREADABLE
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(min(status.st_size + 1, _CHUNK_BYTES)):
            digest.update(chunk)
    return digest.hexdigest()


def _status(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _parse(values: list[str]) -> FileRecord:
    size, mtime_ns, ctime_ns, inode, sha256, checked_ns = values
    return FileRecord(int(size), int(mtime_ns), int(ctime_ns), int(inode), sha256, int(checked_ns))
