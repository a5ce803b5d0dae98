"""Bands without content and cutouts of different sizes, in folders."""

import csv

import numpy as np
import pytest

from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.summary import summarise
from deeplens_tf.errors import DataError
from deeplens_tf.preprocessing.scaling import resize_and_scale
from tests.data.image_folders import SETTINGS, random_image


def write(root, images):
    for i, image in enumerate(images):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{i:03d}.npy", image)
    return root


def rejected(folder):
    with (folder / "rejected.csv").open(newline="") as stream:
        return {row["file"]: row["reason"] for row in csv.DictReader(stream)}


def images(count, bands, start=0):
    return [random_image(start + i, (16, 16, bands)) for i in range(count)]


@pytest.mark.parametrize("value", [0, 255, np.nan])
def test_a_band_that_is_constant_in_every_image_is_left_out(tmp_path, value, capsys):
    cutouts = images(20, 4)
    for image in cutouts:
        image[..., 3] = value
    root = write(tmp_path / "d", cutouts)
    data = open_folder(root, image_size=16, bands=3, cache=tmp_path / "cache")
    assert data.image_shape == (16, 16, 3)
    assert data.manifest.bands_left_out == (3,)
    assert Manifest.load(data.folder) == data.manifest
    note = "band 4 of 4 is constant in every image: left out"
    assert capsys.readouterr().err.splitlines() == [note]
    assert note in summarise(data.manifest, data.folder)
    row = data.index("train").iloc[0]
    stored = next(data.examples("train").as_numpy_iterator())["image"]
    expected = resize_and_scale(np.load(root / row["file"])[..., :3], 16, "resize")
    np.testing.assert_array_equal(stored, expected)


def test_a_band_with_a_value_of_its_own_in_each_image_is_constant_too(tmp_path):
    cutouts = images(8, 3)
    for i, image in enumerate(cutouts):
        image[..., 1] = i
    manifest = prepare_folder(write(tmp_path / "d", cutouts), tmp_path / "out", **SETTINGS)
    assert (manifest.bands_left_out, manifest.image_shape) == ((1,), (16, 16, 2))


@pytest.mark.parametrize("empty", [range(2), [5], range(30, 40)])
def test_an_image_without_exposure_in_a_band_that_others_use_is_left_out(tmp_path, empty):
    cutouts = images(40, 3)
    for i in empty:
        cutouts[i][..., 1] = 0
    manifest = prepare_folder(write(tmp_path / "d", cutouts), tmp_path / "out", **SETTINGS)
    assert (manifest.left_out, manifest.bands_left_out) == ({"no signal": len(empty)}, ())
    assert manifest.rejected == 0
    reason = "band 2 of 3 is constant, value 0, and not in other images: no exposure?"
    assert set(rejected(tmp_path / "out").values()) == {reason}
    assert len(rejected(tmp_path / "out")) == len(empty)


def test_only_the_test_folder_may_show_that_a_band_is_used(tmp_path):
    cutouts = images(60, 2)
    for image in cutouts[:2]:
        image[..., 0] = 0
    for name, part in (("d", cutouts[:30]), ("d_test", cutouts[30:])):
        write(tmp_path / name, part)
    manifest = prepare_folder(tmp_path / "d", tmp_path / "out", **SETTINGS)
    assert (manifest.left_out, manifest.bands_left_out) == ({"no signal": 2}, ())
    assert manifest.splits["test"].count == 30


def test_what_cannot_be_used_does_not_decide_which_bands_are(tmp_path):
    """An alpha channel, and one damaged file whose fourth band is partly without a value."""
    cutouts = images(40, 4)
    for image in cutouts:
        image[..., 3] = 1
    cutouts[7][:4, :, 3] = np.nan
    manifest = prepare_folder(write(tmp_path / "d", cutouts), tmp_path / "out", **SETTINGS)
    assert manifest.bands_left_out == (3,)
    assert rejected(tmp_path / "out") == {"b/007.npy": "64 values are not finite"}


def test_a_band_that_only_few_images_use_ends_the_preparation(tmp_path):
    cutouts = images(40, 2)
    for image in cutouts[:39]:
        image[..., 1] = 255
    expected = "39 of 40 images are constant in a band that others use; 39 of 40 files left out"
    with pytest.raises(DataError, match=expected):
        prepare_folder(write(tmp_path / "d", cutouts), tmp_path / "out", **SETTINGS)


def test_images_without_signal_are_left_out_and_do_not_stop_the_preparation(tmp_path, capsys):
    cutouts = images(20, 2) + [np.zeros((16, 16, 2))] * 6
    cutouts[-1] = np.ones((16, 16, 2)) * [3, 4]
    manifest = prepare_folder(write(tmp_path / "d", cutouts), tmp_path / "out", **SETTINGS)
    assert (manifest.rejected, manifest.left_out) == (0, {"no signal": 6})
    assert "6 of 26 files left out (6 without signal)" in capsys.readouterr().err


# Sizes


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_cutouts_of_different_sizes_are_refused_by_name(tmp_path, fit):
    cutouts = [random_image(i) for i in range(8)]
    cutouts[3] = random_image(3, (12, 14))
    root = write(tmp_path / "d", cutouts)
    hint = "set data.fit=crop, which" if fit == "resize" else "set data.image_size=12, to which"
    expected = rf"b/003\.npy has 12 x 14 pixels, ./00.\.npy has 16 x 16 pixels; .*{hint} .*mixed_s"
    settings = SETTINGS | {"fit": fit}
    with pytest.raises(DataError, match=expected):
        prepare_folder(root, tmp_path / "out", **settings)
    manifest = prepare_folder(root, tmp_path / "out", **settings, mixed_sizes=True)
    assert manifest.settings["mixed_sizes"] is True
    assert sum(split.count for split in manifest.splits.values()) == 8


def test_the_test_folder_must_have_the_same_size(tmp_path):
    write(tmp_path / "d", [random_image(i, (40, 40)) for i in range(6)])
    write(tmp_path / "d_test", [random_image(i + 50, (80, 80)) for i in range(6)])
    with pytest.raises(DataError, match=r"images differ in size: .*40 x 40 .*\.\./d_test/.*80 x"):
        prepare_folder(tmp_path / "d", tmp_path / "out", **SETTINGS)
    settings = SETTINGS | {"fit": "crop"}  # the same pixel scale
    assert prepare_folder(tmp_path / "d", tmp_path / "out", **settings).left_out == {}


def test_sizes_that_differ_by_a_rounding_are_the_same(tmp_path):
    cutouts = [random_image(i, (100 + i % 3, 101)) for i in range(6)]
    assert prepare_folder(write(tmp_path / "d", cutouts), tmp_path / "out", **SETTINGS)
