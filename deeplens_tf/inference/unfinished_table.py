"""A table that grows on disk, so that the same command goes on where an interrupted one was.

The folder `<table>.unfinished` has the rows so far, in CSV, and a record of what has been done.
Rows after those that the record counts are cut off: a process may be killed at any moment.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from deeplens_tf.errors import DataError, RequestError, UnusableFile
from deeplens_tf.files.atomic_writing import flush, remove_folder, write_whole
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.lock import hold
from deeplens_tf.terminal import counted, print_lines

UNFINISHED = ".unfinished"
ROWS, RECORD = "rows.csv", "progress.json"


@dataclass
class Progress:
    """What has been done of a table.

    Attributes:
        images: number of rows.
        bytes: size of them in the file of the rows.
        unusable: number of images that cannot be used.
        first_unusable: name and reason of the first of them; empty without one.
        unlike: number of images unlike the training images.
        nan_filled: counts "images" and "pixels", see `NewImages`.
        sizes: name, height and width of the smallest and the largest image, where these are
            compared.
    """

    images: int = 0
    bytes: int = 0
    unusable: int = 0
    first_unusable: list[str] = field(default_factory=list)
    unlike: int = 0
    nan_filled: dict[str, int] = field(default_factory=dict)
    sizes: list[list[Any]] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """Number of images with predictions."""
        return self.images - self.unusable


class UnfinishedTable:
    """Rows that are appended to, with their record; one process at a time holds it.

    Attributes:
        rows: the file of the rows, in CSV.
        progress: what the rows are; saved with them.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], total: int) -> None:
        self.folder, self.request = folder, dict(request)
        self.rows, self._record = folder / ROWS, folder / RECORD
        self.progress = self._found(total) or Progress()
        self._stream = self.rows.open("ab")
        self._stream.truncate(self.progress.bytes)

    def add(self, table: pd.DataFrame) -> None:
        """Append rows, and save the progress once they are on the disk."""
        # A file name need not be valid Unicode.
        text = table.to_csv(index=False, lineterminator="\n", header=not self.progress.bytes)
        self._stream.write(text.encode("utf-8", "surrogateescape"))
        flush(self._stream)
        self.progress.images += len(table)
        self.progress.bytes = self._stream.tell()
        saved = json.dumps({"request": self.request, "progress": asdict(self.progress)})
        write_whole(self._record, lambda file: file.write(saved.encode()))

    def close(self) -> None:
        """Close the file of the rows."""
        self._stream.close()

    def _found(self, total: int) -> Progress | None:
        """Return the progress of an interrupted process with the same request, and say so."""
        try:
            values = read_json(self._record)
            found = Progress(**values["progress"])
            size = self.rows.stat().st_size if self.rows.is_file() else 0
            is_whole = size >= found.bytes and found.images <= total
        except FileNotFoundError:
            return None
        except (UnusableFile, KeyError, TypeError):
            is_whole, values = False, {"request": {}}
        if not is_whole:
            print_lines(f"{self.folder}: damaged: starting anew")
            return None
        other = [key for key, value in self.request.items() if values["request"].get(key) != value]
        if other:
            print_lines(f"{self.folder}: of another request ({', '.join(other)}): starting anew")
            return None
        print_lines(
            f"{self.folder}: {found.images} of {counted(total, 'image')} are done: going on"
        )
        return found


@contextlib.contextmanager
def unfinished_table(
    path: Path, request: Mapping[str, Any], total: int
) -> Iterator[UnfinishedTable]:
    """Yield the rows of a table, those of an interrupted process with the same request first.

    The folder of the rows is removed after the block, also if the request or the data are refused;
    it stays where the block was interrupted.

    Args:
        path: the table.
        request: what decides its content, as JSON has it.
        total: number of rows that it will have.

    Raises:
        ResourceError: another process is writing it.
    """
    folder = path.with_name(path.name + UNFINISHED)
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder):
        table = UnfinishedTable(folder, request, total)
        try:
            yield table
        except (RequestError, DataError):
            remove_folder(folder)
            raise
        finally:
            table.close()
        remove_folder(folder)
