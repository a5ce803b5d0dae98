"""`python -m deeplens_tf.convert`: writes an encoder, or ends with one line."""

import numpy as np
import pytest

from deeplens_tf.convert import main
from deeplens_tf.errors import RequestError
from deeplens_tf.saving.keras_files import load_encoder
from tests.conversion.keras2_files import HEADS, IMAGE_SHAPE, vit_layers, write
from tests.models.tiny import tiny_images


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path / "original.h5", vit_layers())


@pytest.fixture
def run(weights):
    return lambda to, *more: main([str(weights), "--to", str(to), "--heads", str(HEADS), *more])


def test_the_encoder_is_written_and_loads(run, weights, tmp_path, capsys):
    to = tmp_path / "encoder.keras"
    run(to)
    assert capsys.readouterr().out == (
        f"encoder: {to}, vit_b32_original, 16 x 16 pixels, bands: 2\n"
    )
    assert load_encoder(to)(tiny_images(2, IMAGE_SHAPE)).shape == (2, 256)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.keras", "original.h5"]


def test_an_existing_file_is_not_replaced(run, tmp_path):
    to = tmp_path / "encoder.keras"
    to.write_text("mine")
    with pytest.raises(RequestError, match=r"encoder\.keras: already exists; name a new file"):
        run(to)
    assert to.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("encoder.h5", "must end in .keras"), ("no/folder/encoder.keras", "there is no folder")],
)
def test_an_unusable_path_is_refused(name, reason, run, tmp_path):
    with pytest.raises(RequestError, match=reason):
        run(tmp_path / name)


@pytest.mark.parametrize("option", [("--heads", "0"), ("--image-size", "-64")])
def test_numbers_out_of_range_are_refused(option, run, tmp_path):
    message = f"{option[0]} must be from 1 to 4096. Received: {option[1]}"
    with pytest.raises(RequestError, match=message):
        run(tmp_path / "encoder.keras", *option)


def test_a_file_that_does_not_fit_ends_with_exit_code_2_and_writes_nothing(run_python, tmp_path):
    layers = vit_layers()
    layers["model"]["pre_logits/bias:0"] = np.ones(5, "f4")
    write(tmp_path / "original.h5", layers)
    arguments = ("original.h5", "--to", "encoder.keras", "--heads", str(HEADS))
    ended = run_python("-m", "deeplens_tf.convert", *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "model/pre_logits/bias:0 is (5,) instead of (12,)" in ended.stderr
    assert not (tmp_path / "encoder.keras").exists()
