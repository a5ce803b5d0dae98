import hashlib

import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.data.example_records import example_record
from deeplens_tf.data.record_files import GROUP_BYTES, PIECE_BYTES, masked_crcs, write_records
from tests.hostile.prepared import masked_checksum


def records(*sizes):
    return [np.random.default_rng(size).bytes(size) for size in sizes]


@pytest.mark.parametrize("size", [4, 5, 8, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 1, 1500])
def test_checksums_are_those_of_the_definition(size):
    some = records(size, size + 1, size + 90)
    assert masked_crcs(some) == [masked_checksum(record) for record in some]


def test_no_records_have_no_checksums():
    assert masked_crcs([]) == []


@pytest.mark.parametrize(
    "sizes", [(40, 4000, 17), range(100, 2300), (GROUP_BYTES, GROUP_BYTES + 3, 9)]
)
def test_a_file_is_the_one_that_tensorflow_writes(sizes, tmp_path):
    some = records(*sizes)
    sha256 = write_records(tmp_path / "ours", some)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in some:
            writer.write(record)
    content = (tmp_path / "ours").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert sha256 == hashlib.sha256(content).hexdigest()


def tensorflows(features):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    listed = tf.train.Features(feature={name: feature(value) for name, value in features.items()})
    return tf.train.Example(features=listed).SerializeToString(deterministic=True)


@pytest.mark.parametrize("number", [0, 1, -1, 127, 128, 16_384, 2**40 + 3, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000])
def test_an_example_is_the_one_that_tensorflow_makes(number, size):
    features = {"index": number, "image": np.random.default_rng(size).bytes(size), "a": b"\xff"}
    assert example_record(features) == tensorflows(features)
