"""Reading model files, which may come from strangers."""

import keras
import numpy as np
import pytest

import deeplens_tf
from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import encoder_file
from deeplens_tf.models import DownstreamModel, build_encoder
from deeplens_tf.models.heads import classification_head
from deeplens_tf.saving.keras_files import load_encoder, load_model
from tests.models.tiny import assert_same_values, tiny_images, tiny_vit


@pytest.fixture(scope="module")
def encoder():
    return tiny_vit()


@pytest.fixture
def run_folder(encoder, tmp_path):
    """A pretraining run's folder."""
    encoder.save(tmp_path / "encoder.keras")
    return tmp_path


@pytest.fixture
def downstream_file(encoder, tmp_path):
    path = tmp_path / "model.keras"
    DownstreamModel(encoder, classification_head(2), ("a", "b")).save(path)
    return path


@pytest.fixture
def plain_file(tmp_path):
    path = tmp_path / "plain.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    return path


@pytest.fixture
def code_file(tmp_path):
    """A model that would run code of its own if it were loaded as it asks."""
    path = tmp_path / "code.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)]).save(path)
    return path


def test_an_encoder_is_found_by_file_and_by_folder(encoder, run_folder):
    for place in (run_folder, str(run_folder), run_folder / "encoder.keras"):
        loaded = load_encoder(place)
        assert_same_values(loaded, encoder)
        np.testing.assert_array_equal(loaded(tiny_images()), encoder(tiny_images()))
    assert deeplens_tf.load_encoder is load_encoder


def test_a_fine_tuned_model_gives_its_encoder(encoder, downstream_file):
    for place in (downstream_file, downstream_file.parent):
        assert_same_values(load_encoder(place), encoder)
    assert load_model(downstream_file).class_names == ("a", "b")


def test_a_folder_with_both_gives_the_pretrained_one(run_folder, downstream_file):
    assert encoder_file(run_folder).name == "encoder.keras"


@pytest.mark.parametrize("load", [load_encoder, load_model])
def test_a_model_of_another_kind_is_refused(load, plain_file):
    with pytest.raises(RequestError, match="holds a Sequential, not "):
        load(plain_file)


def test_an_encoder_is_no_fine_tuned_model(run_folder):
    with pytest.raises(RequestError, match="holds a VisionTransformer, not a fine-tuned model"):
        load_model(run_folder / "encoder.keras")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x89HDF\r\n\x1a\n"])
@pytest.mark.parametrize("load", [load_encoder, load_model])
def test_a_file_that_is_no_model_is_refused_in_one_line(load, content, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="not a model that can be loaded safely: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [load_encoder, load_model])
def test_a_file_that_carries_code_is_refused(load, code_file):
    with pytest.raises(RequestError, match="not a model that can be loaded safely: "):
        load(code_file)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"none\.keras: no such file or run folder; pretrain"):
        load_encoder(tmp_path / "none.keras")
    with pytest.raises(RequestError, match=r"the folder contains no encoder\.keras"):
        load_encoder(tmp_path)
    with pytest.raises(RequestError, match="no such file"):
        load_model(tmp_path / "none.keras")
    with pytest.raises(RequestError, match="holds no fine-tuned model"):
        load_model(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("vit_b32_original", {"width": 12, "depth": 1}), ("resnet50", {"top_width": 4})],
)
def test_an_encoder_of_mixed_precision_is_the_same_where_float32_rules(name, options, tmp_path):
    images = tiny_images(image_shape=(32, 32, 1))
    # Some draws of so few features are zero in both precisions.
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = build_encoder(name, (32, 32, 1), **options)
        features = np.asarray(encoder(images))
    finally:
        keras.config.set_dtype_policy("float32")
    encoder.save(tmp_path / "encoder.keras")
    loaded = load_encoder(tmp_path / "encoder.keras")
    assert_same_values(loaded, encoder)
    np.testing.assert_array_equal(np.asarray(loaded(images)), features)
    assert keras.config.dtype_policy().name == "float32"
    in_float32 = build_encoder(name, (32, 32, 1), **options)
    in_float32.set_weights(encoder.get_weights())
    assert np.abs(np.asarray(in_float32(images)) - features.astype("float32")).max() > 0
