"""The pixel scale of FITS headers, from the folder to the prepared images and to new ones."""

import numpy as np
import pytest
from astropy.io import fits

from deeplens_tf.data.folder_settings import PREPARED_KEYS, PROPERTY_KEYS, folder_settings
from deeplens_tf.data.header_scales import first_header_scale
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.errors import RequestError
from deeplens_tf.preprocessing.selection import Selection

RADIUS_ARCSEC = 1.5


def write(path, scale_arcsec, side=40, offset=0.0):
    """Write a Gaussian of the same size on the sky, in pixels of a scale."""
    x = (np.arange(side) - (side - 1) / 2) * scale_arcsec
    sky = np.exp(-((x - offset) ** 2 + x[:, None] ** 2) / (2 * RADIUS_ARCSEC**2))
    step = scale_arcsec / 3600
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -step, "CDELT2": step}
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(sky.astype("f4"), fits.Header(list(cards.items()))).writeto(path)


def write_all(folder, scales):
    for i, scale in enumerate(scales):
        write(folder / f"{i:02d}.fits", scale, offset=0.01 * i)


def test_the_header_gives_the_scale_where_nothing_else_does(tmp_path):
    write_all(tmp_path / "d", [0.2] * 20)
    data = open_folder(tmp_path / "d", image_size=16, fit="crop", cache=tmp_path / "c")
    assert data.preprocessing.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-9)
    again = open_folder(data.folder)
    assert again.preprocessing == data.preprocessing
    with pytest.raises(RequestError, match=r"pixel_scale_arcsec is 0\.3"):
        open_folder(data.folder, pixel_scale_arcsec=0.3)


def test_the_folder_inside_and_the_order_of_names_count(tmp_path):
    write(tmp_path / "d/b/0.fits", 0.3)
    write(tmp_path / "d/a/1.fits", 0.2)
    write(tmp_path / "d/a/2.fits", 0.4)
    assert first_header_scale(tmp_path / "d", Selection()) == pytest.approx(0.2)
    assert first_header_scale(tmp_path / "none", Selection()) is None
    (tmp_path / "e").mkdir()
    (tmp_path / "e/x.fits").write_bytes(b"SIMPLE  = damaged")
    assert first_header_scale(tmp_path / "e", Selection()) is None


def test_files_without_a_scale_are_passed_over(tmp_path):
    write(tmp_path / "d/a/1.fits", 0.3)
    write(tmp_path / "d/b/1.fits", 0.2)
    fits.BinTableHDU.from_columns([]).writeto(tmp_path / "d/catalog.fits")
    fits.PrimaryHDU(np.ones((9, 9))).writeto(tmp_path / "d/a/0.fits")
    (tmp_path / "d/a/00.fits").write_bytes(b"SIMPLE  = damaged")
    assert first_header_scale(tmp_path / "d", Selection()) == pytest.approx(0.3)


def test_what_the_folder_states_counts_before_its_headers(tmp_path):
    write_all(tmp_path / "d", [0.2] * 3)
    (tmp_path / "d/images.yaml").write_text("pixel_scale_arcsec: 0.202\n")
    keys = (*PREPARED_KEYS, *PROPERTY_KEYS, "scale")
    given = dict.fromkeys(keys)
    assert folder_settings(tmp_path / "d", given)["pixel_scale_arcsec"] == 0.202


def test_a_file_of_another_scale_is_rejected(tmp_path):
    write_all(tmp_path / "d", [0.2] * 20 + [0.3])
    data = open_folder(tmp_path / "d", image_size=16, fit="crop", cache=tmp_path / "c")
    rejected = (data.folder / "rejected.csv").read_text()
    assert "20.fits" in rejected
    text = "states pixels of 0.3 arcsec, and those of the others are of 0.2: resample all to use it"
    assert f"its header or its row in the catalogue {text}" in rejected
    assert data.manifest.rejected == 1


def test_each_file_is_resampled_from_its_own_scale(tmp_path):
    write_all(tmp_path / "d", [0.2, 0.3] * 10)
    options = {"image_size": 16, "fit": "crop", "resample_to_arcsec": 0.4}
    data = open_folder(tmp_path / "d", **options, cache=tmp_path / "c")
    files = data.index("train")["file"].tolist()
    x = (np.arange(16) - 7.5) * 0.4
    for example in data.examples("train"):
        offset = 0.01 * int(files[int(example["index"])][:2])
        sky = np.exp(-((x - offset) ** 2 + x[:, None] ** 2) / (2 * RADIUS_ARCSEC**2))
        expected = (sky - sky.min()) / np.ptp(sky)
        assert np.abs(np.asarray(example["image"])[..., 0] - expected).max() < 0.02
