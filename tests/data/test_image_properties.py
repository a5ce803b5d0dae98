"""The pixel scale and the bands of a folder: `images.yaml`, a configuration, a prepared folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

import deeplens_tf as dl
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.data.folder_settings import with_folder_settings, without_settings_of
from deeplens_tf.data.image_properties import image_properties
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.matching import other_parts, require_same_preprocessing
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.selection import Selection


@pytest.fixture
def source(tmp_path):
    folder, draw = tmp_path / "images", np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            np.save(folder / name / f"{i}.npy", draw.normal(size=(20, 20, 2)))
    (folder / "images.yaml").write_text("pixel_scale_arcsec: 0.1\nband_names: [g, r]\n")
    return folder


def opened(folder, tmp_path, **options):
    return dl.data.open_folder(folder, image_size=16, cache=tmp_path / "cache", **options)


def test_a_folders_own_properties_reach_its_images(source, tmp_path):
    own = image_properties(source)
    assert (own.band_names, own.pixel_scale_arcsec) == (("g", "r"), 0.1)
    how = opened(source, tmp_path).preprocessing
    assert (how.band_names, how.source_scale_arcsec) == (("g", "r"), 0.1)
    assert how.pixel_scale_arcsec == pytest.approx(0.1 * 20 / 16)
    assert opened(source, tmp_path, fit="crop").preprocessing.pixel_scale_arcsec == 0.1
    data = with_folder_settings(load_config("defaults", data=str(source))).data
    assert (data.band_names, data.pixel_scale_arcsec) == (("g", "r"), 0.1)


def test_a_configuration_may_add_to_them_and_not_contradict(source, tmp_path):
    (source / "images.yaml").write_text("band_names: [g, r]\n")
    assert opened(source, tmp_path, pixel_scale_arcsec=0.2).preprocessing.source_scale_arcsec == 0.2
    with pytest.raises(RequestError, match=r"data\.band_names is \[r, g\], .*images has \[g, r\]"):
        with_folder_settings(load_config("defaults", ["data.band_names=[r, g]"], str(source)))
    with pytest.raises(RequestError, match="band_names must be 2, as many as"):
        (source / "images.yaml").unlink()
        opened(source, tmp_path, band_names=["g", "r", "i"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pixel_scale: 0.1", "pixel_scale"),
        ("pixel_scale_arcsec: -1", "pixel_scale_arcsec must be above 0"),
        ("pixel_scale_arcsec: wide", "pixel_scale_arcsec must be a number"),
        ("[1]", "must be a mapping"),
        ("a: {", "not YAML"),
        ("band_names: " + "x" * 200_000, "larger than 100000 bytes"),
    ],
)
def test_a_damaged_file_is_refused(source, text, message):
    (source / "images.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"images\.yaml: .*{message}"):
        image_properties(source)


def test_the_test_folder_may_not_contradict(source, tmp_path):
    (tmp_path / "images_test").mkdir()
    (tmp_path / "images_test" / "images.yaml").write_text("pixel_scale_arcsec: 0.2\n")
    with pytest.raises(DataError, match=r"images_test: its pixel_scale_arcsec is 0\.2, .* 0\.1"):
        image_properties(source)


def test_a_prepared_folder_keeps_them(source, tmp_path):
    out = tmp_path / "out"
    prepare.main([str(source), "--out", str(out), "--image-size", "16"])
    manifest = Manifest.load(out)
    assert (manifest.band_names, manifest.pixel_scale_arcsec) == (("g", "r"), 0.125)
    assert image_properties(out) == image_properties(source)
    assert dl.data.open_folder(out).preprocessing == opened(source, tmp_path).preprocessing
    with pytest.raises(RequestError, match=r"data\.pixel_scale_arcsec is 0\.3, .*prepare the"):
        dl.data.open_folder(out, pixel_scale_arcsec=0.3)
    with pytest.raises(RequestError, match=r"resample_to_arcsec null, not 0\.11"):
        dl.data.open_folder(out, resample_to_arcsec=0.11)


def test_the_validation_split_of_a_prepared_folder_is_its_own(source, tmp_path):
    out = tmp_path / "out"
    prepare.main([str(source), "--out", str(out), "--validation-fraction", "0.34"])
    assert dl.data.open_folder(out).count("validation") == 4
    resolved = with_folder_settings(load_config("defaults", data=str(out))).data
    assert resolved.validation_fraction == 0.34
    raw = with_folder_settings(load_config("defaults", data=str(source))).data
    assert raw.validation_fraction == 0.1
    for other in (0.1, 0.5, 0):
        message = rf"validation_fraction 0\.34, not {other}.*: set data\.validation_fraction=0\.34"
        with pytest.raises(RequestError, match=message):
            dl.data.open_folder(out, validation_fraction=other)


def test_resampling_makes_two_scales_alike(source, tmp_path):
    data = opened(source, tmp_path, resample_to_arcsec=0.12)
    assert (data.preprocessing.pixel_scale_arcsec, data.preprocessing.resampled) == (0.12, True)
    with pytest.raises(RequestError, match="resample_to_arcsec needs the pixel scale"):
        (source / "images.yaml").unlink()
        opened(source, tmp_path, resample_to_arcsec=0.12)


def test_images_that_do_not_cover_the_field_are_rejected(source, tmp_path):
    with pytest.raises(DataError, match=r"covers 2 of 2\.4 arcsec"):
        opened(source, tmp_path, resample_to_arcsec=0.15)


def test_mixed_sizes_are_fine_where_they_are_resampled(source, tmp_path):
    np.save(source / "a" / "wide.npy", np.random.default_rng(1).normal(size=(40, 30, 2)))
    with pytest.raises(DataError, match="differ in size"):
        opened(source, tmp_path)
    assert opened(source, tmp_path, resample_to_arcsec=0.12).count("train") > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 32}, r"image_size 16 instead of 32; .*: set data\.image_size=32"),
        ({"band_names": ("r", "g")}, r"bands g, r instead of r, g$"),
        (
            {"pixel_scale_arcsec": 0.1},
            r"0\.125 instead of 0\.1 arcsec: set data\.resample_to_arcsec=0\.1$",
        ),
        (
            {"fit": "crop", "pixel_scale_arcsec": None, "source_scale_arcsec": None},
            r"fit resize instead of crop: set data\.fit=crop",
        ),
    ],
)
def test_other_data_than_those_of_training_are_refused(source, tmp_path, change, message):
    data = opened(source, tmp_path)
    values = {key: getattr(data.preprocessing, key) for key in Preprocessing.__dataclass_fields__}
    if "image_size" in change:
        change = change | {"pixel_scale_arcsec": 0.0625}
    with pytest.raises(RequestError, match=message):
        require_same_preprocessing(Preprocessing(**(values | change)), data, "encoder.keras")
    require_same_preprocessing(data.preprocessing, data, "encoder.keras")
    require_same_preprocessing(None, data, "encoder.keras")


def test_what_another_folder_said_is_not_taken_over(source, tmp_path):
    trained = with_folder_settings(load_config("defaults", data=str(source)))
    config = replace(trained, data=replace(trained.data, path=str(tmp_path)))
    opened_again = without_settings_of(trained.data, config).data
    assert (opened_again.band_names, opened_again.pixel_scale_arcsec) == (None, None)
    assert opened_again.validation_fraction == 0.1
    kept = without_settings_of(trained.data, config, ["data.pixel_scale_arcsec=0.1"]).data
    assert (kept.band_names, kept.pixel_scale_arcsec) == (None, 0.1)
    assert without_settings_of(trained.data, trained) == trained


@pytest.mark.parametrize(
    ("key", "trained_on", "own"), [("fits_hdu", "SCI", 1), ("hdf5_dataset", "a", "b")]
)
def test_the_part_of_training_is_read_where_the_folder_names_none(
    key, trained_on, own, source, tmp_path
):
    words = [f"data.{key}={trained_on}"]
    trained = with_folder_settings(load_config("defaults", words, data=str(source)))
    other = tmp_path / "other"
    other.mkdir()
    config = replace(trained, data=replace(trained.data, path=str(other)))
    assert getattr(without_settings_of(trained.data, config).data, key) == trained_on
    (other / "images.yaml").write_text(f"{key}: {own}\n")
    opened_again = with_folder_settings(without_settings_of(trained.data, config)).data
    assert getattr(opened_again, key) == own
    prepared = tmp_path / "prepared"
    dl.data.prepare_folder(source, prepared, image_size=16, seed=0)
    config = replace(trained, data=replace(trained.data, path=str(prepared)))
    assert getattr(without_settings_of(trained.data, config).data, key) is None


@pytest.mark.parametrize(
    ("section", "damage"),
    [
        (None, {"pixel_scale_arcsec": -1}),
        (None, {"pixel_scale_arcsec": "0.1"}),
        (None, {"band_names": ["g"]}),
        (None, {"band_names": "gr"}),
        ("settings", {"pixel_scale_arcsec": 0}),
        ("settings", {"resample_to_arcsec": 0.1, "pixel_scale_arcsec": None}),
        ("settings", {"band_names": ["g", "g"]}),
        ("settings", {"validation_fraction": 3}),
    ],
)
def test_a_manifest_with_impossible_properties_is_damaged(source, tmp_path, section, damage):
    out = tmp_path / "out"
    prepare.main([str(source), "--out", str(out)])
    values = json.loads((out / "manifest.json").read_text())
    (values[section] if section else values).update(damage)
    (out / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        dl.data.open_folder(out)


def test_another_hdu_than_that_of_an_encoder_is_named(tmp_path):
    (tmp_path / "d").mkdir()
    for i in range(4):
        first, second = np.random.default_rng(i).random((2, 16, 16))
        hdus = [fits.PrimaryHDU(first), fits.ImageHDU(second, name="SCI")]
        fits.HDUList(hdus).writeto(tmp_path / "d" / f"{i}.fits")
    options = {"image_size": 16, "cache": tmp_path / "cache"}
    own = dl.data.open_folder(tmp_path / "d", fits_hdu="SCI", **options).preprocessing
    assert own.selection == Selection(fits_hdu="SCI")
    data = dl.data.open_folder(tmp_path / "d", **options)
    assert other_parts(own, data, "encoder.keras") == [
        "encoder.keras: trained with data.fits_hdu=SCI, and these files are read with "
        "data.fits_hdu=null"
    ]
    for selection in (None, Selection(), Selection(hdf5_dataset="no HDF5 file is there")):
        assert other_parts(replace(own, selection=selection), data, "encoder.keras") == []
