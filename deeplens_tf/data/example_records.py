"""Records of TensorFlow's `tf.train.Example`, made without TensorFlow.

An example is a protocol buffer: https://protobuf.dev/programming-guides/encoding, and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto. Its
features are in the order of their names here, as in TensorFlow's deterministic serialisation.
"""

from collections.abc import Mapping

_BYTES_LIST, _INT64_LIST = 1, 3  # the fields of a feature; its values are the first field of a list


def example_record(features: Mapping[str, bytes | int]) -> bytes:
    """Return the bytes of an example, each of whose features is one string or one int64."""
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(features[name])))
        for name in sorted(features)
    )
    return _field(1, b"".join(entries))


def _feature(value: bytes | int) -> bytes:
    if isinstance(value, bytes):
        return _field(_BYTES_LIST, _field(1, value))
    return _field(_INT64_LIST, _field(1, _varint(value)))


def _field(number: int, content: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, _varint(len(content)), content)


def _varint(value: int) -> bytes:
    """Return a whole number by seven bits a byte, the lowest first; two's complement if below 0."""
    value %= 1 << 64
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
