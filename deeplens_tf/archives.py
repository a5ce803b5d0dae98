"""Zip archives of strangers: their table of contents is looked at before it is read."""

import struct
from pathlib import Path

from deeplens_tf.errors import UnusableFile

_END = struct.Struct("<4s4H2LH")  # the record that closes a zip archive, without a comment
_LOCATOR_BYTES = 20  # what stands before it where a second, larger record is to be used instead


def check_directory(path: Path, most_members: int, most_bytes: int = 4096) -> None:
    """Refuse an archive of too many members before `zipfile` builds a list of them.

    Args:
        path: a regular file.
        most_members: that the archive may have.
        most_bytes: that its table of contents may take.

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
    if count > most_members:
        raise UnusableFile(f"an archive of {count} members, at most {most_members} are read")
    if directory_bytes > most_bytes:
        raise UnusableFile(f"an archive whose table of contents has {directory_bytes} bytes")
