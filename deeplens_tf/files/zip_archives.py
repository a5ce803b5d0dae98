"""Zip archives of strangers: their table of contents is looked at before it is read."""

import io
import os
import struct
import zipfile
from pathlib import Path

from deeplens_tf.errors import UnusableFile

_END = struct.Struct("<4s4H2LH")  # the record that closes a zip archive, without a comment
_LOCATOR_BYTES = 20  # what stands before it where a second, larger record is to be used instead
_LOCAL = struct.Struct("<4s22x2H")  # what stands before a member: lengths of its name and extras


def check_directory(path: Path, max_members: int, max_bytes: int = 4096) -> None:
    """Refuse an archive of too many members before `zipfile` builds a list of them.

    Args:
        path: a regular file.
        max_members: that the archive may have.
        max_bytes: that its table of contents may take.

    Raises:
        UnusableFile: no zip archive as NumPy and Keras write it, or a larger one.
    """
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END.size - _LOCATOR_BYTES))
        tail = stream.read()
    end = tail[-_END.size :]
    # A comment would hide the record, and a second record would overrule it.
    if len(end) < _END.size or not end.startswith(b"PK\5\6") or tail.startswith(b"PK\6\7"):
        raise UnusableFile("not an archive as NumPy and Keras write it")
    _, _, _, _, count, directory_bytes, _, _ = _END.unpack(end)
    if count > max_members:
        raise UnusableFile(f"an archive of {count} members, at most {max_members} are read")
    if directory_bytes > max_bytes:
        raise UnusableFile(f"an archive whose table of contents has {directory_bytes} bytes")


class StoredMember(io.RawIOBase):
    """A member that is not packed, as a file of its own where it lies in the archive.

    `zipfile` reads a member from its start whenever it is to go back, and HDF5 goes back often.

    Args:
        path: of the archive.
        member: of its table of contents, held to the file's size before.

    Raises:
        UnusableFile: where it should be is no member.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo) -> None:
        super().__init__()
        self.size, self._place = member.file_size, 0
        self._file = path.open("rb")
        self._file.seek(member.header_offset)
        head = self._file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
            self._file.close()
            raise UnusableFile(f"{member.filename} is not where it should be")
        self._start = self._file.tell() + sum(_LOCAL.unpack(head)[1:])

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from any place."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the start, from here or from the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill a buffer as far as the member reaches; return how many bytes that is."""
        self._file.seek(self._start + self._place)
        count = self._file.readinto(memoryview(buffer)[: max(self.size - self._place, 0)])
        self._place += count
        return count

    def close(self) -> None:
        """Close the archive too."""
        self._file.close()
        super().close()
