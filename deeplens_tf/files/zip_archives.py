"""Untrusted zip archives: their central directory is checked before `zipfile` reads it."""

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens_tf.errors import UnusableFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_END = struct.Struct("<4s4H2LH")  # end of central directory record, without a comment
_ZIP64_LOCATOR_BYTES = 20  # precedes the end record in zip64 archives
_LOCAL_HEADER = struct.Struct("<4s22x2H")  # precedes a member; lengths of its name and extra field


def check_central_directory(path: Path, max_members: int, max_bytes: int = 4096) -> None:
    """Refuse an archive with too many members before `zipfile` builds a list of them.

    Args:
        path: a regular file.
        max_members: number of members that the archive may have.
        max_bytes: size that its central directory may have.

    Raises:
        UnusableFile: not a zip archive as NumPy and Keras write it, or one beyond a limit.
    """
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END.size - _ZIP64_LOCATOR_BYTES))
        tail = stream.read()
    end = tail[-_END.size :]
    # A comment would hide the end record, and a zip64 record would override it.
    if len(end) < _END.size or not end.startswith(b"PK\5\6") or tail.startswith(b"PK\6\7"):
        raise UnusableFile("not an archive as NumPy and Keras write it")
    _, _, _, _, count, directory_bytes, _, _ = _END.unpack(end)
    if count > max_members:
        raise UnusableFile(f"an archive of {count} members, at most {max_members} are read")
    if directory_bytes > max_bytes:
        raise UnusableFile(
            f"an archive with a central directory of {directory_bytes} bytes, at most {max_bytes}"
        )


class StoredMember(io.RawIOBase):
    """An uncompressed member of an archive, as a seekable file that is read in place.

    `zipfile` reads a member from its start for each seek backwards, and HDF5 seeks often.

    Args:
        path: path of the archive.
        member: entry of its central directory, already checked against the size of the file.

    Raises:
        UnusableFile: there is no member at the recorded offset.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo) -> None:
        super().__init__()
        self.size, self._position = member.file_size, 0
        self._file = path.open("rb")
        self._file.seek(member.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            self._file.close()
            raise UnusableFile(f"{member.filename} is not at its recorded offset")
        self._start = self._file.tell() + sum(_LOCAL_HEADER.unpack(header)[1:])

    @property
    def start(self) -> int:
        """Where the member begins in the archive."""
        return self._start

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move relative to the start, the current position or the end; return the position."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer as far as the member extends; return the number of bytes read."""
        self._file.seek(self._start + self._position)
        left = max(self.size - self._position, 0)
        count = self._file.readinto(memoryview(buffer).cast("B")[:left])
        self._position += count
        return count

    def close(self) -> None:
        """Close the archive as well."""
        self._file.close()
        super().close()
