"""The pickle of the published `[image, mass_ev]` files, read by its layout.

NumPy 1 writes the same bytes for every file, apart from the two sides, the pixels and the mass, so
nothing has to be unpickled. Any other byte leaves the file to `pickles.py`.
"""

import re
import struct

# fmt: off
_BEFORE_PIXELS = re.compile(
    # An array of two objects: a call, its type and its state, whose list of elements begins.
    re.escape(
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02"
        b"C\x01bq\x03\x87q\x04Rq\x05(K\x01K\x02\x85q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00O8"
        b"q\x08\x89\x88\x87q\tRq\n(K\x03X\x01\x00\x00\x00|q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K?tq\x0cb\x89]q\r("
    )
    # The image: the same call, the two sides, float64 in little-endian order, rows first.
    + re.escape(b"h\x00h\x01K\x00\x85q\x0eh\x03\x87q\x0fRq\x10(K\x01") + b"K(.)K(.)" + re.escape(
        b"\x86q\x11h\x07X\x02\x00\x00\x00f8q\x12\x89\x88\x87q\x13Rq\x14(K\x03X\x01\x00\x00\x00<"
        b"q\x15NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x16b\x89B"
    )
    + b"(.{4})",  # the number of bytes of the pixels, which follow
    re.DOTALL,
)
# The end of the image, a scalar of the same type, the end of the list and of the array.
_AFTER_PIXELS = re.compile(
    re.escape(b"q\x17tq\x18bcnumpy.core.multiarray\nscalar\nq\x19h\x14C\x08") + b"(.{8})"
    + re.escape(b"q\x1a\x86q\x1bRq\x1cetq\x1db."),
    re.DOTALL,
)
# fmt: on

DESCR = "<f8"  # of the pixels


def split_published(data: bytes) -> tuple[tuple[int, int], bytes, float] | None:
    """Return the shape, the pixels and the mass of a published pickle; None for any other.

    The number of pixels is not checked against the shape.
    """
    head = _BEFORE_PIXELS.match(data)
    if head is None:
        return None
    start = head.end()
    end = start + int.from_bytes(head[3], "little")
    tail = _AFTER_PIXELS.fullmatch(data, end)
    if tail is None:
        return None
    return (head[1][0], head[2][0]), data[start:end], struct.unpack("<d", tail[1])[0]
