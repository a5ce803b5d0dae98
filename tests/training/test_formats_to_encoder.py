"""One command from each layout of astronomers' images to a trained encoder."""

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from deeplens_tf import load_encoder, pretrain
from deeplens_tf.models.vit import VARIANTS

COUNT, SIDE, BANDS = 24, 16, ("g", "r", "i")
SETTINGS = (
    *("data.image_size=16", "train.epochs=1", "train.batch_size=6", "train.jit_compile=false"),
    *("pretrain.projection_width=8", "data.validation_fraction=0.3", "encoder.patch_size=4"),
)


@pytest.fixture(autouse=True)
def small_network(monkeypatch, tmp_path, no_pictures, eager_steps):
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)
    monkeypatch.setitem(VARIANTS, "vit_nano", small)
    monkeypatch.chdir(tmp_path)


def cubes():
    """Return bytes as pixels, which every format holds exactly, (n, bands, height, width)."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (COUNT, len(BANDS), SIDE, SIDE)).astype("u1")


def multi_extension_fits(folder):
    for i, cube in enumerate(cubes()):
        hdus = [fits.ImageHDU(band, name=name) for band, name in zip(cube, BANDS, strict=True)]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / f"{i:02d}.fits")
    return "data.fits_hdu=g,r,i"


def a_file_for_each_band(folder):
    for i, cube in enumerate(cubes()):
        for name, band in zip(BANDS, cube, strict=True):
            fits.PrimaryHDU(band).writeto(folder / f"{i:02d}_{name}.fits")
    return "data.band_names=[g, r, i]", 'data.band_files="{id}_{band}.fits"'


def rice_compressed_fits(folder):
    for i, cube in enumerate(cubes()):
        image = fits.CompImageHDU(cube, compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / f"{i:02d}.fits.fz")


def hdf5_stack(folder):
    with h5py.File(folder / "stack.h5", "w") as file:
        file.create_dataset("images", data=cubes(), compression="gzip")


def png_previews(folder):
    for i, cube in enumerate(cubes()):
        Image.fromarray(np.moveaxis(cube, 0, -1)).save(folder / f"{i:02d}.png")


def catalogue_with_a_stack(folder):
    hdf5_stack(folder)
    rows = pd.DataFrame({"file": "stack.h5", "row": range(COUNT)})
    rows["label"] = ["lens", "other"] * (COUNT // 2)
    rows.to_csv("catalog.csv", index=False)
    return ("data.catalog=catalog.csv",)


LAYOUTS = (
    *(multi_extension_fits, a_file_for_each_band, rice_compressed_fits),
    *(hdf5_stack, png_previews, catalogue_with_a_stack),
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_one_command_trains_an_encoder(layout, tmp_path):
    (tmp_path / "data").mkdir()
    own = layout(tmp_path / "data") or ()
    settings = (*SETTINGS, *((own,) if isinstance(own, str) else own))
    words = [word for setting in settings for word in ("--set", setting)]
    pretrain.main(["--data", "data", "--run-dir", "run", *words])
    encoder = load_encoder("run")
    assert encoder.image_shape == (SIDE, SIDE, len(BANDS))
    raw = np.moveaxis(cubes(), 1, -1)
    features = encoder.features(raw)
    assert features.shape == (COUNT, 16)
    assert np.isfinite(features).all()
