"""JSON files of any origin: one object of limited size, or a reason."""

import os

import pytest

from deeplens_tf.errors import UnusableFile
from deeplens_tf.files.json_objects import read_json


@pytest.fixture
def path(tmp_path):
    return tmp_path / "facts.json"


def test_an_object_is_returned(path):
    path.write_text('{"a": [1, null]}')
    assert read_json(path) == {"a": [1, None]}
    assert read_json(path, max_bytes=16) == {"a": [1, None]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: "),
        (b"{", "not JSON: "),
        (b"\xff\xfe", "not JSON: "),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": "' + b"x" * 2_000_000 + b'"}', "larger than 1000000 bytes"),
    ],
)
def test_anything_else_is_refused_with_its_reason(path, content, reason):
    path.write_bytes(content)
    with pytest.raises(UnusableFile, match=reason):
        read_json(path, max_bytes=1_000_000)


def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(UnusableFile, match="not a regular file"):
        read_json(path)


def test_a_missing_file_is_missing(path):
    with pytest.raises(FileNotFoundError):
        read_json(path)
