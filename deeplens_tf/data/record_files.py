"""TFRecord files, written without TensorFlow, which takes seconds to import.

A record is its length, a checksum of the length, its bytes and a checksum of these. The checksums
are CRC-32C (Castagnoli), masked as in
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.

A CRC is linear: that of zeros is zero, and that of two parts follows from those of the parts. All
records are therefore cut into short pieces, whose CRCs NumPy computes at once.
"""

import hashlib
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.files.atomic_writing import writing

PIECE_BYTES = 64
PIECES_AT_ONCE = 1 << 14  # a megabyte, which a processor's cache holds
GROUP_BYTES = 4 << 20  # of records, whose checksums are computed together

_POLYNOMIAL = 0x82F63B78  # the lowest bit is the highest power
_ONES = np.uint32(0xFFFFFFFF)
_MASK_DELTA = np.uint32(0xA282EAD8)

CRCs = NDArray[np.uint32]


def write_records(path: Path, records: Sequence[bytes]) -> str:
    """Write a TFRecord file and return its SHA-256.

    Raises:
        ResourceError: the file cannot be written.
    """
    digest = hashlib.sha256()
    lengths = [struct.pack("<Q", len(record)) for record in records]
    columns = (lengths, masked_crcs(lengths), records, masked_crcs(records))
    with writing(path), path.open("wb") as file:
        for length, length_crc, record, record_crc in zip(*columns, strict=True):
            framed = b"%b%b%b%b" % (length, _packed(length_crc), record, _packed(record_crc))
            digest.update(framed)
            file.write(framed)
    return digest.hexdigest()


def masked_crcs(records: Sequence[bytes]) -> list[int]:
    """Return the masked CRC-32C of each record, which has at least four bytes."""
    size = max(1, GROUP_BYTES // max(map(len, records), default=1))
    groups = [records[first : first + size] for first in range(0, len(records), size)]
    return [crc for group in groups for crc in _masked(_crcs(group)).tolist()]


def _packed(crc: int) -> bytes:
    return struct.pack("<I", crc)


def _masked(crcs: CRCs) -> CRCs:
    rotated = (crcs >> 15) | (crcs << 17)
    return np.add(rotated, _MASK_DELTA, dtype=np.uint32)


def _crcs(records: Sequence[bytes]) -> CRCs:
    count = -(-max(map(len, records)) // PIECE_BYTES)
    padded = np.zeros((len(records), count * PIECE_BYTES), np.uint8)
    for row, record in zip(padded, records, strict=True):
        row[len(row) - len(record) :] = np.frombuffer(record, np.uint8)  # zeros before it are free
        row[len(row) - len(record) :][:4] ^= 0xFF  # as if the CRC began with ones
    pieces = padded.reshape(-1, PIECE_BYTES)
    blocks = range(0, len(pieces), PIECES_AT_ONCE)
    crcs = np.concatenate([_of_pieces(pieces[i : i + PIECES_AT_ONCE]) for i in blocks])
    return _joined(crcs.reshape(len(records), count)) ^ _ONES


def _of_pieces(pieces: NDArray[np.uint8]) -> CRCs:
    """Return the CRC of each row, without ones at its start and its end."""
    table = _after_zeros(2)[0]
    crcs = np.zeros(len(pieces), np.uint32)
    for words in np.ascontiguousarray(pieces.view("<u2").T):  # the next two bytes of each piece
        crcs = table.take(crcs.astype(np.uint16) ^ words) ^ (crcs >> 16)
    return crcs


def _joined(crcs: CRCs) -> CRCs:
    """Return the CRC of each row of pieces, joined in pairs until one is left."""
    size = PIECE_BYTES
    while crcs.shape[1] > 1:
        if crcs.shape[1] % 2:
            crcs = np.pad(crcs, ((0, 0), (1, 0)))  # a piece of zeros before the others
        low, high = _after_zeros(size)
        first = crcs[:, ::2]
        crcs = low.take(first & 0xFFFF) ^ high.take(first >> 16) ^ crcs[:, 1::2]
        size *= 2
    return crcs[:, 0]


@cache
def _after_zeros(size: int) -> tuple[CRCs, CRCs]:
    """Return what `size` bytes of zeros, a power of two, make of a CRC.

    The first table is for its low 16 bits, the second one for its high 16 bits.
    """
    words = np.arange(1 << 16, dtype=np.uint32)
    if size == 1:
        table = words & 0xFF
        for _ in range(8):
            table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
        return (table ^ (words >> 8)).astype(np.uint32), words << np.uint32(8)
    low, high = _after_zeros(size // 2)
    twice = [low.take(part & 0xFFFF) ^ high.take(part >> 16) for part in (low, high)]
    return twice[0], twice[1]
