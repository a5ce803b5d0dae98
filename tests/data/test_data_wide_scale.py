"""One interval of pixel values for a data set, learnt from its training images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.visualization import ZScaleInterval

import deeplens_tf as dl
from deeplens_tf.config import load_config
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing import data_interval
from tests.data.image_folders import SETTINGS

OVER = dl.data.ValueScale(scale_over="data")


def write_lenses(root, seed=0, count=12, factor=1.0, bands=2):
    """Write images whose brightness differs from image to image."""
    generator = np.random.default_rng(seed)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = generator.random((16, 16, bands)) * generator.uniform(1, 50) * factor
            np.save(root / name / f"{name}{i:03d}.npy", image)
    return root


@pytest.fixture
def source(tmp_path):
    write_lenses(tmp_path / "lenses_test", seed=1, count=4, factor=10)
    return write_lenses(tmp_path / "lenses")


def prepared(source, out, scale=OVER, **options):
    prepare_folder(source, out, **SETTINGS, scale=scale, **options)
    return dl.data.open_folder(out)


def raw(data, split, source):
    root = source if split != "test" else Path(f"{source}_test")
    return np.stack([np.load(root / name) for name in data.index(split)["file"]])


def images(data, split):
    return np.concatenate(list(dl.data.image_batches(data, split, 5)))


def expected_ends(values, interval):
    values = np.sort(values.astype(np.float64).ravel())
    if interval == "minmax":
        return values[0], values[-1]
    if interval == "percentile":
        return tuple(np.percentile(values, [0.5, 99.5]))
    some = values[:: -(-values.size // 10_000)]
    return ZScaleInterval(n_samples=some.size).get_limits(some)


@pytest.mark.parametrize("bands", ["together", "each"])
@pytest.mark.parametrize("interval", ["minmax", "percentile", "zscale"])
def test_the_interval_is_that_of_all_training_pixels(source, tmp_path, interval, bands):
    scale = dl.data.ValueScale(interval, scale_bands=bands, scale_over="data")
    data = prepared(source, tmp_path / "out", scale)
    train = raw(data, "train", source)
    groups = [train[..., 0], train[..., 1]] if bands == "each" else [train]
    expected = np.array([expected_ends(group, interval) for group in groups])
    np.testing.assert_allclose(data.preprocessing.scaling.limits, expected, rtol=1e-12)
    low, high = expected.T if bands == "each" else expected[0]
    for split in ("train", "validation", "test"):
        pixels = raw(data, split, source)
        wanted = (pixels.clip(low, high) - low) / (high - low)
        np.testing.assert_allclose(images(data, split), wanted, atol=1e-6)
        np.testing.assert_array_equal(data.preprocessing.apply(pixels), images(data, split))
        fitted = data.preprocessing.scaling
        again = [dl.data.resize_and_scale(each, 16, "resize", fitted) for each in pixels]
        np.testing.assert_array_equal(again, images(data, split))


def test_the_images_of_an_array_have_the_interval_of_those_for_training(source):
    pixels = np.stack([np.load(path) for path in sorted(source.glob("*/*.npy"))])
    test = np.arange(len(pixels)) % 3 == 0
    data = dl.data.from_arrays(pixels, test=test, image_size=16, scale=OVER)
    train = pixels[(data.table["split"] == "train").to_numpy()]
    assert len(train) < (~test).sum()  # some are for validation
    assert data.preprocessing.scaling.limits == ((train.min(), train.max()),)
    np.testing.assert_array_equal(data.preprocessing.apply(pixels), data.images)


@pytest.mark.parametrize("interval", ["minmax", "percentile", "zscale"])
def test_images_that_are_not_for_training_change_nothing_of_it(source, tmp_path, interval):
    scale = replace(OVER, interval=interval)
    data = prepared(source, tmp_path / "first", scale)
    places = {"validation": source, "test": Path(f"{source}_test")}
    for split, root in places.items():
        for name in data.index(split)["file"]:
            np.save(root / name, 1000 * np.load(root / name) + 7)
    again = prepared(source, tmp_path / "second", scale)
    assert again.preprocessing.scaling == data.preprocessing.scaling
    name = data.index("train")["file"][0]
    np.save(source / name, 1000 * np.load(source / name))
    other = prepared(source, tmp_path / "third", scale)
    assert other.preprocessing.scaling != data.preprocessing.scaling


def test_a_sample_is_bounded_and_the_same_for_any_order_and_number_of_processes(
    source, tmp_path, monkeypatch
):
    monkeypatch.setattr(data_interval, "SAMPLE_VALUES", 4096)
    scale = replace(OVER, interval="percentile")
    framing = data_interval.Framing(16, "resize", scale=scale)
    measuring = data_interval.Measuring.like(framing, 24)
    pixels = [np.load(path) for path in sorted(source.glob("*/*.npy"))]
    measures = [measuring.scaled(each) for each in pixels]
    assert {each.shape for each in measures} == {(2 + 4096 // 48, 2)}
    for image, measure in zip(pixels, measures, strict=True):
        assert {*map(tuple, measure[2:])} <= {*map(tuple, image.reshape(-1, 2))}
    found = data_interval.learnt_limits(measures, scale)
    assert found == data_interval.learnt_limits(measures[::-1], scale)
    np.testing.assert_allclose(found, [np.percentile(pixels, [0.5, 99.5])], rtol=0.1)
    one = prepared(source, tmp_path / "one", scale)
    two = prepared(source, tmp_path / "two", scale, jobs=2)
    assert one.preprocessing == two.preprocessing
    np.testing.assert_array_equal(images(one, "train"), images(two, "train"))


def test_flux_ratios_between_images_are_kept():
    image = np.random.default_rng(0).random((16, 16, 1))
    scale = replace(OVER, limits=((0.0, 8.0),))
    once, twice = (dl.data.resize_and_scale(k * image, 12, "resize", scale) for k in (1, 2))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    own = [dl.data.resize_and_scale(k * image, 12, "resize") for k in (1, 2)]
    np.testing.assert_allclose(*own, rtol=1e-5, atol=1e-6)  # each by itself: no difference is left


def test_an_image_of_which_nothing_is_left_is_named_and_moves_no_other(source, tmp_path):
    before = prepared(source, tmp_path / "before", replace(OVER, limits=((-1.0, 1e4),)))
    name = before.index("validation")["file"][0]
    np.save(source / name, np.load(source / name) + 100)
    data = prepared(source, tmp_path / "out", replace(OVER, limits=((0.0, 60.0),)))
    listed = (tmp_path / "out" / "rejected.csv").read_text()
    assert f'{name},"constant within the interval of the data, 0 to 60"' in listed
    assert data.manifest.left_out == {"no signal": 1}
    assert data.count("validation") == before.count("validation") - 1
    assert sorted(data.index("train")["file"]) == sorted(before.index("train")["file"])
    with pytest.raises(ValueError, match=r"images\[0\] cannot be used: constant within the int"):
        data.preprocessing.apply([np.load(source / name)])


def test_data_without_an_interval_are_refused(tmp_path):
    (tmp_path / "zeros").mkdir()
    for i in range(3):
        image = np.zeros((16, 16))
        image[0, 0] = i + 1
        np.save(tmp_path / "zeros" / f"{i}.npy", image)
    with pytest.raises(DataError, match="percentile interval of the training images is constant"):
        prepared(tmp_path / "zeros", tmp_path / "out", replace(OVER, interval="percentile"))


def test_a_manifest_and_a_file_keep_it_and_earlier_readers_refuse_them(source, tmp_path):
    data = prepared(source, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert stored["format_version"] == 6
    how = data.preprocessing
    assert how.to_dict()["version"] == 4
    assert replace(how, selection=None).to_dict()["version"] == 3
    assert type(how).from_dict(json.loads(json.dumps(how.to_dict()))) == how
    assert prepared(source, tmp_path / "out").preprocessing == how  # is up to date
    for damage in ({"scale_limits": None}, {"format_version": 5}, {"scale_limits": [[1, 0]]}):
        (tmp_path / "out" / "manifest.json").write_text(json.dumps(stored | damage))
        with pytest.raises(DataError, match="damaged"):
            Manifest.load(tmp_path / "out")


def test_other_images_have_the_interval_of_the_training(source, tmp_path):
    cache = f"data.cache={tmp_path}/cache"
    words = ["data.image_size=16", "data.scale_over=data", cache]
    own = open_data(load_config("defaults", words, str(source)))
    trained = own.preprocessing
    again = open_data(load_config("defaults", words, str(source)), trained)
    assert again.folder == own.folder  # is not prepared once more
    write_lenses(tmp_path / "new", seed=3, factor=0.5)
    config = load_config("defaults", words, str(tmp_path / "new"))
    data = open_data(config, trained)
    assert data.preprocessing.scaling == trained.scaling != open_data(config).preprocessing.scaling
    pixels = raw(data, "train", tmp_path / "new")
    np.testing.assert_array_equal(images(data, "train"), trained.apply(pixels))
    require_same_preprocessing(trained, data, "encoder.keras")
    require_same_preprocessing(trained, own, "encoder.keras")
    with pytest.raises(RequestError, match=r"over the data \(.* give the images that it was made"):
        require_same_preprocessing(trained, open_data(config), "encoder.keras")
    plain = open_data(load_config("defaults", [words[0], cache], str(source)))
    with pytest.raises(RequestError, match=r"set data\.scale_over=data"):
        require_same_preprocessing(trained, plain, "encoder.keras")
    prepare_folder(tmp_path / "new", tmp_path / "out", **SETTINGS, scale=OVER)
    with pytest.raises(RequestError, match="was prepared with the scale min-max, over the data"):
        open_data(load_config("defaults", words, str(tmp_path / "out")), trained)


def test_a_scale_over_the_data_needs_its_limits(source):
    image = np.load(next(source.glob("a/*.npy")))
    with pytest.raises(RequestError, match="scale must have limits"):
        dl.data.resize_and_scale(image, 16, "resize", OVER)
    for limits in ((), ((1.0, 1.0),), ((0.0, np.inf),), ((0.0, 1.0), (0.0, 1.0)), "ab"):
        with pytest.raises(ValueError, match="limits must be pairs of finite numbers"):
            replace(OVER, limits=limits)
    with pytest.raises(ValueError, match="limits must be None without scale_over data"):
        dl.data.ValueScale(limits=((0.0, 1.0),))
