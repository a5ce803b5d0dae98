"""Records of TensorFlow's `tf.train.Example`, made without TensorFlow.

An example is a protocol buffer: https://protobuf.dev/programming-guides/encoding, and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto. Its
features are in the order of their names here, as in TensorFlow's deterministic serialisation.
"""

from collections.abc import Mapping
from functools import lru_cache

# Fields: of a feature, one for each type of list; of a list, its values; of an entry of the map of
# features, which is that of an example as well, the name and the feature.
BYTES_LIST, INT64_LIST = 1, 3
VALUES, NAME, FEATURE, ENTRY, FEATURES = 1, 1, 2, 1, 1


def example_record(features: Mapping[str, bytes | int]) -> bytes:
    """Return the bytes of an example, each of whose features is one string or one int64."""
    parts = []
    for name in sorted(features):
        value = features[name]
        kind = BYTES_LIST if isinstance(value, bytes) else INT64_LIST
        content = value if isinstance(value, bytes) else _varint(value)
        parts += [_before_value(name, kind, len(content)), content]
    entries = b"".join(parts)
    return _start(FEATURES, len(entries)) + entries


@lru_cache(maxsize=1024)  # the images of a folder, and most of the other values, are equally long
def _before_value(name: str, kind: int, size: int) -> bytes:
    """Return what comes before a value of `size` bytes in its entry."""
    before = b""
    for field in (VALUES, kind, FEATURE):
        before = _start(field, size + len(before)) + before
    before = _start(NAME, len(name.encode())) + name.encode() + before
    return _start(ENTRY, size + len(before)) + before


def _start(field: int, size: int) -> bytes:
    """Return what comes before the bytes of a field."""
    return b"%c%b" % (field << 3 | 2, _varint(size))


def _varint(value: int) -> bytes:
    """Return a whole number by seven bits a byte, the lowest first; two's complement if below 0."""
    value %= 1 << 64
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
