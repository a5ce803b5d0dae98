"""A prepared folder knows its own size and fit; raw images have defaults."""

import json

import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf import finetune, prepare
from deeplens_tf.config import load_config, save_config
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import make_folder

OWN = {"image_size": 12, "fit": "crop", "validation_fraction": 0.1, "seed": 0}


@pytest.fixture
def source(tmp_path):
    return make_folder(tmp_path / "lenses", {"a": 10, "b": 10}, shape=(20, 20))


@pytest.fixture
def prepared(source, tmp_path):
    prepare_folder(source, tmp_path / "prepared", **OWN)
    return tmp_path / "prepared"


def images_of(data):
    return np.concatenate(list(dl.data.image_batches(data, "train", 5)))


def resolved(folder, *words):
    data = with_folder_settings(load_config("defaults", words, str(folder))).data
    return data.image_size, data.fit


def test_a_prepared_folder_opens_with_its_own_settings(prepared):
    data = dl.data.open_folder(prepared)
    assert data.image_shape == (12, 12, 1)
    named = dl.data.open_folder(prepared, image_size=12, fit="crop")
    np.testing.assert_array_equal(images_of(data), images_of(named))
    assert open_data(load_config("defaults", data=str(prepared))).image_shape == (12, 12, 1)


@pytest.mark.parametrize("given", [{"image_size": 16}, {"fit": "resize"}])
def test_another_value_than_its_own_is_refused(prepared, given):
    (key, value) = next(iter(given.items()))
    with pytest.raises(RequestError, match=f"was prepared with {key} {OWN[key]}, not {value}"):
        dl.data.open_folder(prepared, **given)


def test_raw_images_are_64_pixels_resized(source, tmp_path):
    data = dl.data.open_folder(source, cache=tmp_path / "cache")
    assert data.image_shape == (64, 64, 1)
    assert data.manifest.settings["fit"] == "resize"


def test_one_of_both_may_be_left_open(prepared, source, tmp_path):
    assert dl.data.open_folder(prepared, image_size=12).image_shape == (12, 12, 1)
    assert dl.data.open_folder(prepared, fit="crop").image_shape == (12, 12, 1)
    data = dl.data.open_folder(source, image_size=16, cache=tmp_path / "cache")
    assert (data.image_shape[0], data.manifest.settings["fit"]) == (16, "resize")


def test_a_configuration_becomes_concrete(prepared, source, tmp_path):
    assert resolved(prepared) == (12, "crop")
    assert resolved(source) == resolved(tmp_path / "missing") == (64, "resize")
    # What is given stays, and opening the folder refuses it.
    assert resolved(prepared, "data.image_size=16") == (16, "crop")
    assert resolved(source, "data.fit=crop") == (64, "crop")


def test_a_resolved_configuration_is_repeated_from_its_file(prepared, tmp_path):
    config = with_folder_settings(load_config("defaults", data=str(prepared)))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(str(tmp_path / "config.yaml")) == config
    assert with_folder_settings(config) == config


def test_finetuning_takes_them_from_a_prepared_folder(prepared):
    words = ["--config", "finetune", "--encoder", "none", "--data", str(prepared)]
    arguments = finetune.build_parser().parse_args(words)
    data = finetune.resolve_config(arguments).data
    assert (data.image_size, data.fit) == (12, "crop")


def test_prepare_stores_concrete_settings_and_draws_its_preview(source, tmp_path):
    out, picture = tmp_path / "out", tmp_path / "views.png"
    prepare.main([str(source), "--out", str(out)])
    settings = Manifest.load(out).settings
    assert (settings["image_size"], settings["fit"]) == (64, "resize")
    small = tmp_path / "small"
    prepare.main([str(source), "--out", str(small), "--image-size", "16", "--fit", "crop"])
    prepare.main([str(small), "--preview", str(picture)])
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "damage", [{"image_size": 10**9}, {"image_size": 2}, {"fit": "pad"}, {"fit": []}]
)
def test_a_manifest_with_other_settings_is_damaged(prepared, damage):
    path = prepared / "manifest.json"
    values = json.loads(path.read_text())
    values["settings"] |= damage
    size = values["settings"]["image_size"]
    values["image_shape"] = [size, size, 1]
    path.write_text(json.dumps(values))
    for attempt in (lambda: resolved(prepared), lambda: dl.data.open_folder(prepared)):
        with pytest.raises(DataError, match=r"manifest\.json: damaged, .*; prepare the images"):
            attempt()


def test_numpys_numbers_make_the_same_folder(source, tmp_path):
    settings = {
        "image_size": np.int64(16),
        "seed": np.int32(2),
        "validation_fraction": np.float64(0.2),
    }
    plain = {"image_size": 16, "seed": 2, "validation_fraction": 0.2}
    cache = tmp_path / "cache"
    first, second = (
        dl.data.open_folder(source, cache=cache, **given) for given in (settings, plain)
    )
    assert first.folder == second.folder
    stored = Manifest.load(first.folder).settings
    assert stored.items() >= {**plain, "fit": "resize"}.items()
    assert {type(stored[key]) for key in ("image_size", "seed")} == {int}
    assert type(first.seed) is int


@pytest.mark.parametrize("bands", [0, -1, 1.0, True])
def test_a_number_of_bands_that_is_none_is_refused(prepared, bands):
    with pytest.raises(RequestError, match="bands must be a whole number of at least 1"):
        dl.data.open_folder(prepared, bands=bands)
