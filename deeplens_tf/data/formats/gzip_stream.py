"""The content of a gzip file, read forwards within bounds."""

import zlib
from typing import IO

from deeplens_tf.errors import UnusableFile

MAX_INFLATED_BYTES = 10**9
_PACKED_BYTES = 64 << 10


class GzipStream:
    """Reads what a gzip file contains, without ever holding more than is asked for.

    Args:
        packed: open at the first byte.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._input, self._left = packed, b"", MAX_INFLATED_BYTES
        self._inflate = zlib.decompressobj(wbits=31)

    def read(self, count: int) -> bytes:
        """Return the next bytes, at most `count` of them; none at the end.

        Raises:
            UnusableFile: damaged, or it unpacks to more than 1 GB.
        """
        while True:
            self._input = self._input or self._packed.read(_PACKED_BYTES)
            if self._inflate.eof:  # another member may follow
                self._inflate = zlib.decompressobj(wbits=31)
            if not self._input:
                return b""
            try:
                found = self._inflate.decompress(self._input, count)
            except zlib.error as error:
                raise UnusableFile("a damaged gzip file") from error
            self._input = self._inflate.unconsumed_tail or self._inflate.unused_data
            self._left -= len(found)
            if self._left < 0:
                raise UnusableFile("a gzip file that unpacks to more than 1 GB")
            if found:
                return found
