"""Raw pixels: prepared by `features`, warned of by `predict`; the preprocessing in files."""

import json
import warnings
import zipfile
from typing import Annotated

import keras
import numpy as np
import pytest

from deeplens_tf.dataclass_parsing import Bounds
from deeplens_tf.errors import RequestError
from deeplens_tf.models import (
    DownstreamModel,
    build_encoder,
    classification_head,
    register_encoder,
)
from deeplens_tf.models.encoders import copy_of
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.statistics import TrainingRange
from deeplens_tf.saving.keras_files import load_encoder, load_model, save_encoder

HOW = Preprocessing(32, "resize", 1, pixel_scale_arcsec=0.1, source_scale_arcsec=0.05)
RAW = 1000 + 50 * np.random.default_rng(0).normal(size=(3, 64, 64))
PLUGIN = "convnet_with_preprocessing"
TINY = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 16}


def convnet(image_shape, filters: Annotated[int, Bounds(low=1, high=64)] = 4):
    pixels = keras.Input(image_shape)
    features = keras.layers.Conv2D(filters, 3, activation="relu")(pixels)
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(features))


@pytest.fixture(params=["vit_nano", "vit_b32_original", "resnet50", PLUGIN])
def encoder(request, forgotten_names):
    options = TINY if request.param.startswith("vit") else {}
    if request.param == "resnet50":
        options = {"top_width": 4, "plain_top": True}
    if request.param == PLUGIN:
        register_encoder(PLUGIN, convnet)
    return build_encoder(request.param, (32, 32, 1), **options)


def scaled(raw: np.ndarray) -> np.ndarray:
    return HOW.apply(raw)


def test_features_prepare_raw_images_and_survive_a_file(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "encoder.keras", HOW)
    loaded = load_encoder(tmp_path / "encoder.keras")
    assert loaded.preprocessing == HOW
    expected = encoder.predict(scaled(RAW), verbose=0)
    np.testing.assert_allclose(loaded.features(RAW), expected, atol=1e-6)
    np.testing.assert_allclose(loaded.features(list(RAW[:2])), expected[:2], atol=1e-6)


def test_a_copy_keeps_it_and_a_file_without_it_is_as_before(encoder, tmp_path):
    assert "preprocessing" not in encoder.get_config()
    assert copy_of(encoder, "copy").preprocessing is None
    encoder.preprocessing = HOW
    assert copy_of(encoder, "copy").preprocessing == HOW


@pytest.fixture
def vit():
    return build_encoder("vit_nano", (32, 32, 1), **TINY)


@pytest.mark.parametrize(
    "outside", [RAW[..., np.newaxis][:, :32, :32], np.full((1, 32, 32, 1), np.nan, np.float32)]
)
def test_predict_warns_once_of_other_values(vit, outside):
    with pytest.warns(UserWarning, match=r"trained on images in \[0, 1\].* features\(\)"):
        vit.predict(outside, verbose=0)
    vit.predict(outside, verbose=0)  # a warning would be an error


def test_predict_warns_of_a_tensor(vit):
    with pytest.warns(UserWarning, match=r"images in \[0, 1\]"):
        vit.predict(keras.ops.full((1, 32, 32, 1), 1.1), verbose=0)


def test_predict_is_silent_on_scaled_images(vit):
    images = scaled(RAW)
    images[0, 0, 0] = 1.0005  # rounding of another program
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vit.predict(images, verbose=0)
        vit.predict(images, batch_size=2, verbose=0)


def test_features_of_no_images_are_refused(vit):
    vit.preprocessing = Preprocessing(32, "resize", 1)
    with pytest.raises(ValueError, match="must contain at least one image"):
        vit.features(np.empty((0, 20, 20)))


def test_features_without_preprocessing_name_what_to_do(vit):
    with pytest.raises(ValueError, match="set the encoder's attribute preprocessing"):
        vit.features(RAW)
    vit.preprocessing = Preprocessing(16, "resize", 1)
    with pytest.raises(ValueError, match=r"images of \(32, 32, 1\).* \(16, 16, 1\)"):
        vit.features(RAW)
    assert vit.with_image_size(48, 48).preprocessing is None


def test_a_fine_tuned_model_has_that_of_its_encoder(vit, tmp_path):
    vit.preprocessing = HOW
    spread = TrainingRange((0.1,) * 4, (0.2,) * 4, 5)
    model = DownstreamModel(vit, classification_head(2), ("a", "b"), training_range=spread)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert (loaded.preprocessing, loaded.training_range) == (HOW, spread)
    expected = model.predict(scaled(RAW), verbose=0)
    np.testing.assert_allclose(loaded.predict_images(RAW), expected, atol=1e-6)
    with pytest.warns(UserWarning, match=r"predict_images\(\)"):
        loaded.predict(scaled(RAW) + 1, verbose=0)
    plain = DownstreamModel(build_encoder("vit_nano", (32, 32, 1), **TINY), classification_head(2))
    assert "training_range" not in plain.get_config()
    assert plain.preprocessing is None


def rewritten(source, target, change) -> None:
    """Copy a model file with another config.json."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                recipe = json.loads(content)
                change(recipe["config"])
                content = json.dumps(recipe).encode()
            new.writestr(name, content)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"version": 9}, "is of version 9, and this deeplens_tf reads versions 1 to 4"),
        (HOW.to_dict() | {"image_size": 16}, r"for images of \(16, 16, 1\)"),
        (HOW.to_dict() | {"other": {"class_name": "Lambda", "config": {}}}, "key, other"),
        (HOW.to_dict() | {"fit": ["resize"]}, "fit"),
        ([1], "preprocessing must be a mapping"),
        (7, "preprocessing must be a mapping"),
    ],
)
def test_a_file_with_another_preprocessing_is_refused(vit, tmp_path, values, reason):
    save_encoder(vit, tmp_path / "good.keras", HOW)
    bad = tmp_path / "bad.keras"
    rewritten(tmp_path / "good.keras", bad, lambda config: config.update(preprocessing=values))
    with pytest.raises(RequestError, match=reason):
        load_encoder(bad)


def test_a_file_with_another_training_range_is_refused(vit, tmp_path):
    model = DownstreamModel(vit, classification_head(2), ("a", "b"))
    model.save(tmp_path / "good.keras")
    bad = tmp_path / "bad.keras"
    rewritten(tmp_path / "good.keras", bad, lambda config: config.update(training_range={"n": 1}))
    with pytest.raises(RequestError, match="training_range must have the keys"):
        load_model(bad)


def test_saving_refuses_a_preprocessing_for_other_images(vit, tmp_path):
    with pytest.raises(ValueError, match=r"preprocessing must give images of \(32, 32, 1\)"):
        save_encoder(vit, tmp_path / "encoder.keras", Preprocessing(16, "resize", 1))
