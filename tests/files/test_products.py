"""Which file a path to an encoder refers to."""

import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import ENCODER, MODEL, encoder_file


def test_a_file_is_itself_and_a_run_folder_its_product(tmp_path):
    for name in (MODEL, ENCODER, "mine.keras"):
        (tmp_path / name).touch()
        assert encoder_file(tmp_path / name) == tmp_path / name
    assert encoder_file(tmp_path) == tmp_path / ENCODER
    (tmp_path / ENCODER).unlink()
    assert encoder_file(tmp_path) == tmp_path / MODEL


def test_without_either_there_is_advice(tmp_path):
    advice = "; pretrain first, or give a run folder, a .keras file or the name of a shipped .*"
    with pytest.raises(RequestError, match=rf"the folder contains no encoder\.keras{advice}$"):
        encoder_file(tmp_path)
    with pytest.raises(RequestError, match=rf"no such file or run folder{advice}$"):
        encoder_file(tmp_path / "none")
