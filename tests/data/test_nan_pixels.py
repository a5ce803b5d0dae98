"""NaN pixels: refused, or filled where they are few, and counted wherever images are read."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import DataError, UnusableFile
from deeplens_tf.inference.predicting import predict
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.scaling import crop_margin, scale_with_margin
from deeplens_tf.preprocessing.value_scale import INTERVALS, NAN_FILLS
from tests.data.image_folders import make_folder
from tests.evaluation.runs import finetuned

SIDE, SIZE = 24, 16
KEPT = slice(4, 20)  # of the crop


def image_with_gaps(seed=0, bands=2, dtype="f8"):
    """Three NaN pixels in the kept square, of which two are in one band, and two beyond it."""
    image = 5 + np.random.default_rng(seed).normal(size=(SIDE, SIDE, bands)).astype(dtype)
    image[10, 10] = np.nan
    image[12, 6, 0] = image[13, 6, 0] = np.nan
    image[2, 3] = image[22, 22, 1] = np.nan
    return image


def naive_filled(image, how):
    """Fill band by band, pixel by pixel, with what the other kept pixels say."""
    result = image.astype(float)
    for band in range(image.shape[-1]):
        known = sorted(v for v in result[KEPT, KEPT, band].ravel().tolist() if v == v)
        middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
        value = {"median": middle, "minimum": known[0], "zero": 0.0}[how]
        for i, j in np.ndindex(SIDE, SIDE):
            if result[i, j, band] != result[i, j, band]:
                result[i, j, band] = value
    return result


@pytest.mark.parametrize(("interval", "fill"), list(product(INTERVALS, NAN_FILLS)))
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_gaps_are_filled_before_the_interval_and_in_the_margin(interval, fill, dtype):
    scale = dl.data.ValueScale(interval, max_nan_fraction=0.02, nan_fill=fill)
    image = image_with_gaps(dtype=dtype)
    framing = Framing(SIZE, "crop", scale=scale)
    filled, count = framing.without_nan(image)
    assert (count, filled.dtype) == (3, image.dtype)
    assert np.isnan(image[10, 10]).all()  # is not changed itself
    expected = naive_filled(image, fill)
    np.testing.assert_allclose(filled, expected, rtol=1e-6)
    plain = dl.data.ValueScale(interval)
    found = framing.scaled(filled)
    assert found.shape[0] == SIZE + 2 * crop_margin(SIZE, "crop")
    np.testing.assert_array_equal(found, scale_with_margin(filled, SIZE, "crop", plain))
    np.testing.assert_array_equal(
        dl.data.resize_and_scale(image, SIZE, "crop", scale),
        dl.data.resize_and_scale(filled, SIZE, "crop", plain),
    )


def test_more_than_the_share_is_refused_band_by_band():
    image, share = image_with_gaps(), 3 / SIZE**2  # of the first band; the second has one
    enough = dl.data.ValueScale(max_nan_fraction=share)
    assert Framing(SIZE, "crop", scale=enough).without_nan(image)[1] == 3
    less = dl.data.ValueScale(max_nan_fraction=share - 1e-6)
    assert Framing(SIZE, "crop", scale=less).without_nan(image)[1] == 1
    with pytest.raises(UnusableFile, match="3 values are not finite"):
        dl.data.resize_and_scale(image, SIZE, "crop", less)
    with pytest.raises(UnusableFile, match="4 values are not finite"):
        dl.data.resize_and_scale(image, SIZE, "crop")
    image[10, 10, 0] = np.inf
    with pytest.raises(UnusableFile, match="1 value is not finite"):
        dl.data.resize_and_scale(image, SIZE, "crop", enough)


def test_what_replaces_nan_is_no_difference_of_two_preprocessings():
    filling = Preprocessing(SIZE, "crop", 1, scaling=dl.data.ValueScale(max_nan_fraction=0.1))
    plain = Preprocessing(SIZE, "crop", 1)
    assert filling.differences(plain) == plain.differences(filling) == []
    stored = filling.to_dict()
    assert stored["version"] == 2
    assert (stored["scaling"]["max_nan_fraction"], stored["scaling"]["nan_fill"]) == (0.1, "median")
    assert Preprocessing.from_dict(json.loads(json.dumps(stored))) == filling
    with pytest.raises(ValueError, match="scale must have the keys"):
        Preprocessing.from_dict(stored | {"scaling": {**stored["scaling"], "inf_fill": 0}})


@pytest.fixture
def source(tmp_path):
    """Twenty images; three have gaps in the kept pixels, of 3 pixels each, one in its margin."""
    root = make_folder(tmp_path / "lenses", {"a": 10, "b": 10}, shape=(SIDE, SIDE, 2))
    for name in ("a/a_0000.npy", "b/b_0003.npy", "b/b_0007.npy"):
        np.save(root / name, image_with_gaps(len(name) + int(name[-5])))
    edge = np.load(root / "a" / "a_0009.npy")
    edge[0, 0] = np.nan
    np.save(root / "a" / "a_0009.npy", edge)
    return root


def configured(folder, tmp_path, *words):
    words = [f"data.image_size={SIZE}", "data.fit=crop", f"data.cache={tmp_path}/c", *words]
    return load_config("finetune", words, str(folder))


def test_filled_pixels_are_counted_in_the_manifest_and_printed(source, tmp_path, capsys):
    words = ["data.fit=crop", f"data.image_size={SIZE}", "data.max_nan_fraction=0.02"]
    options = [part for word in words for part in ("--set", word)]
    prepare.main([str(source), "--out", str(tmp_path / "out"), *options])
    assert "  9 NaN pixels of 3 images filled\n" in capsys.readouterr().out
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.nan_filled == {"images": 3, "pixels": 9}
    assert manifest.scale == dl.data.ValueScale(max_nan_fraction=0.02)
    assert manifest.rejected == 0
    data = open_data(configured(source, tmp_path, "data.max_nan_fraction=0.02"))
    assert "9 NaN pixels of 3 images filled\n" in capsys.readouterr().err
    raw = [np.load(source / name) for name in data.index("train")["file"]]
    stored = np.concatenate(list(dl.data.image_batches(data, "train", 5)))
    np.testing.assert_array_equal(data.preprocessing.apply(raw), stored)


def test_without_the_key_they_are_rejected_as_before(source, tmp_path):
    data = open_data(configured(source, tmp_path))
    assert (data.manifest.rejected, data.manifest.nan_filled) == (3, {})
    assert "nan_filled" not in json.loads((data.folder / "manifest.json").read_text())


def test_arrays_in_memory_are_filled_too():
    raw = np.stack([image_with_gaps(i) for i in range(4)])
    scale = dl.data.ValueScale(max_nan_fraction=0.02)
    data = dl.data.from_arrays(raw, image_size=SIZE, fit="crop", scale=scale)
    np.testing.assert_array_equal(data.preprocessing.apply(raw), data.images)
    with pytest.raises(ValueError, match=r"images\[0\] cannot be used: 4 values are not finite"):
        dl.data.from_arrays(raw, image_size=SIZE, fit="crop")


@pytest.mark.usefixtures("no_pictures")
def test_predict_fills_and_counts_them(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = finetuned(tmp_path / "run", configured(source, tmp_path, "data.max_nan_fraction=0.02"))
    capsys.readouterr()
    made = predict(run.folder, source)
    assert (made.count, made.rejected) == (20, 0)
    assert "9 NaN pixels of 3 images filled\n" in capsys.readouterr().out
    model = dl.load_model(run.model)
    table = pd.read_csv(made.table).set_index("file")
    image = np.load(source / "b" / "b_0007.npy")
    assert model.preprocessing.nan_pixels(image) == 3
    expected = model.predict_images([image])[0, 0]
    assert table.loc["b/b_0007.npy", "p_a"] == pytest.approx(expected, rel=1e-5)


def test_a_manifest_with_another_count_is_damaged(source, tmp_path):
    data = open_data(configured(source, tmp_path, "data.max_nan_fraction=0.02"))
    path = data.folder / "manifest.json"
    path.write_text(path.read_text().replace('"pixels": 9', '"pixels": -9'))
    with pytest.raises(DataError, match=r"manifest\.json: damaged, nan_filled is not a valid"):
        dl.data.open_folder(data.folder)
