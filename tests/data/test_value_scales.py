"""A scale of values from the configuration to shards, manifest, model and new images."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf import prepare
from deeplens_tf.config import load_config, save_config
from deeplens_tf.data.folder_settings import scale_of, with_folder_settings
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.predicting import predict
from tests.data.image_folders import SETTINGS, make_folder
from tests.evaluation.runs import finetuned

SCALE = dl.data.ValueScale("percentile", (1, 98), "asinh", 0.05)
WORDS = (
    *("data.interval=percentile", "data.percentiles=[1, 98]"),
    *("data.stretch=asinh", "data.asinh_softening=0.05"),
)


@pytest.fixture
def source(tmp_path):
    return make_folder(tmp_path / "lenses", {"a": 10, "b": 10}, shape=(24, 24))


@pytest.fixture
def prepared(source, tmp_path):
    prepare_folder(source, tmp_path / "prepared", **SETTINGS, scale=SCALE)
    return tmp_path / "prepared"


def configured(folder, *words):
    return load_config("defaults", ["data.image_size=16", *words], str(folder))


def images_of(data):
    return np.concatenate(list(dl.data.image_batches(data, "train", 5)))


def test_every_way_to_the_images_gives_the_same(source, prepared, tmp_path):
    data = dl.data.open_folder(prepared)
    assert data.preprocessing.scaling == SCALE
    names = data.index("train")["file"]
    raw = [np.load(source / name)[..., None] for name in names]
    found = images_of(data)
    for image, expected in zip(raw, found, strict=True):
        again = dl.data.resize_and_scale(image, 16, "resize", SCALE)
        np.testing.assert_array_equal(again, expected)
    np.testing.assert_array_equal(data.preprocessing.apply(raw), found)
    in_memory = dl.data.from_arrays(np.stack(raw), image_size=16, scale=SCALE)
    np.testing.assert_array_equal(in_memory.images, found)
    np.testing.assert_array_equal(in_memory.preprocessing.apply(raw), found)
    cached = open_data(configured(source, *WORDS, f"data.cache={tmp_path}/cache"))
    np.testing.assert_array_equal(images_of(cached), found)
    prepare.main([str(source), "--out", str(tmp_path / "stage"), *_set("data.image_size=16")])
    assert Manifest.load(tmp_path / "stage").scale == dl.data.ValueScale()


def _set(*words):
    return [part for word in words for part in ("--set", word)]


def test_the_stage_prepares_with_the_configured_scale(source, prepared, tmp_path):
    words = _set("data.image_size=16", *WORDS)
    prepare.main([str(source), "--out", str(tmp_path / "stage"), *words])
    paths = (tmp_path / "stage" / "manifest.json", prepared / "manifest.json")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert json.loads(paths[0].read_text())["format_version"] == 5


def test_min_max_scaling_leaves_a_folder_as_in_earlier_versions(source, tmp_path):
    plain = dl.data.open_folder(source, image_size=16, cache=tmp_path / "cache")
    stored = json.loads((plain.folder / "manifest.json").read_text())
    assert stored["format_version"] == 3
    assert list(stored["settings"]) == [
        *("image_size", "fit", "validation_fraction", "seed", "mixed_sizes", "band_names"),
        *("pixel_scale_arcsec", "resample_to_arcsec", "margin"),
    ]
    named = open_data(configured(source, "data.interval=minmax", f"data.cache={tmp_path}/cache"))
    assert named.folder == plain.folder


def test_a_prepared_folder_decides_its_scale(source, prepared):
    data = with_folder_settings(configured(prepared)).data
    assert (data.interval, data.percentiles) == ("percentile", (1.0, 98.0))
    assert (data.stretch, data.asinh_softening, data.scale_bands) == ("asinh", 0.05, "together")
    raw = with_folder_settings(configured(source)).data
    assert raw.interval is raw.stretch is None  # as in the runs of earlier versions
    resolved = with_folder_settings(configured(prepared))
    save_config(resolved, prepared.parent / "config.yaml")
    again = load_config(str(prepared.parent / "config.yaml"))
    assert with_folder_settings(again) == again == resolved  # a resumed run compares them
    opened = open_data(configured(prepared, *WORDS))
    assert opened.preprocessing.scaling == SCALE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.interval=minmax"], r"prepared with interval percentile, not minmax: set data\.int"),
        (
            ["data.interval=percentile"],
            r"prepared with percentiles \[1\.0, 98\.0\], not .*: set data\.percentiles=\[1\.0, 98",
        ),
        ([*WORDS[:2], "data.stretch=log"], "prepared with stretch asinh, not log"),
        ([*WORDS[:3]], r"prepared with asinh_softening 0\.05, not 0\.1"),
        ([*WORDS, "data.scale_bands=each"], "prepared with scale_bands together, not each"),
        (["data.percentiles=[1, 98]"], r"data\.percentiles must be None without interval perc"),
        ([WORDS[0], "data.percentiles=[98, 1]"], r"data\.percentiles must be two rising numbers"),
    ],
)
def test_another_scale_than_its_own_is_refused(prepared, words, message):
    with pytest.raises(RequestError, match=message):
        open_data(configured(prepared, *words))


def test_the_parameters_of_another_stretch_do_not_count(prepared):
    of_run = with_folder_settings(configured(prepared)).data
    changed = replace(of_run, interval="zscale", stretch="log")
    assert scale_of(changed) == dl.data.ValueScale("zscale", stretch="log")


def test_another_scale_in_python_is_refused(source, prepared):
    with pytest.raises(RequestError, match="prepared with interval percentile, not zscale"):
        dl.data.open_folder(prepared, scale=dl.data.ValueScale("zscale"))
    with pytest.raises(RequestError, match=r"scale must be a dl\.data\.ValueScale\. Received"):
        dl.data.open_folder(source, scale="zscale")


def test_a_folder_of_another_scale_is_not_written_over(source, prepared):
    with pytest.raises(RequestError, match=r"another preparation \(scale \{'interval': 'percent"):
        prepare_folder(source, prepared, **SETTINGS)
    prepare_folder(source, prepared, **SETTINGS, scale=SCALE)  # is up to date


@pytest.mark.parametrize(
    "damage", [{"scale": {"interval": "zscale"}}, {"scale": None}, {"format_version": 4}]
)
def test_a_manifest_with_another_scale_is_damaged(prepared, damage):
    path = prepared / "manifest.json"
    values = json.loads(path.read_text())
    (values["settings"] if "scale" in damage else values).update(damage)
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"manifest\.json: damaged, (a )?scale"):
        dl.data.open_folder(prepared)


def test_data_of_another_scale_than_in_training_name_the_keys(source, prepared, tmp_path):
    trained = dl.data.open_folder(prepared).preprocessing
    other = dl.data.open_folder(source, image_size=16, cache=tmp_path / "cache")
    message = (
        r"scaling min-max instead of percentile 1 to 98, asinh 0\.05: set data\.interval="
        r"percentile, data\.percentiles=\[1\.0, 98\.0\], data\.stretch=asinh, data\.asinh_soft"
    )
    with pytest.raises(RequestError, match=message):
        require_same_preprocessing(trained, other, "encoder.keras")


@pytest.mark.usefixtures("no_pictures")
def test_a_model_scales_new_images_as_those_of_its_training(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["data.image_size=16", *WORDS]
    run = finetuned(tmp_path / "run", load_config("finetune", words, "lenses"))
    model = dl.load_model(run.model)
    assert model.preprocessing.scaling == SCALE
    found = pd.read_csv(predict(run.folder, source).table).set_index("file")
    names = list(found.index)
    raw = [np.load(source / name)[..., None] for name in names]
    scaled = np.stack([dl.data.resize_and_scale(each, 16, "resize", SCALE) for each in raw])
    np.testing.assert_array_equal(model.preprocessing.apply(raw), scaled)
    expected = model.predict_on_batch(scaled)
    np.testing.assert_allclose(found["p_a"], expected[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(
        model.encoder.features(raw), model.encoder.predict(scaled, verbose=0)
    )
