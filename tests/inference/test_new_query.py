"""An image file that `search --run` takes is read as `embed` would, with the same options."""

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import deeplens_tf as dl
from deeplens_tf import search as stage
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.embedding import embed
from deeplens_tf.inference.searching import search
from tests.models.tiny import tiny_vit

COUNT = 6
SPLIT = {"band_names": ["g"], "band_files": "{id}_{band}.fits"}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((COUNT, 16, 16))


@pytest.fixture
def embedded(images, tmp_path, monkeypatch):
    """Embeddings of six images, by an encoder that was trained on pixels of 0.1 arcsec."""
    monkeypatch.chdir(tmp_path)
    data = dl.data.from_arrays(images, image_size=16, fit="crop", pixel_scale_arcsec=0.1)
    dl.save_encoder(tiny_vit(data.image_shape), "e.keras", data.preprocessing)
    (tmp_path / "survey").mkdir()
    for i, image in enumerate(images):
        np.save(f"survey/{i}.npy", image)
    embed("e.keras", "survey", "e.npz")


def nearest(like, *words):
    command = ["--embeddings", "e.npz", "--run", "e.keras", "--like", like, "--out", "found"]
    stage.main([*command, *words])
    table = pd.read_csv("found/neighbours.csv")
    assert table["similarity"][0] == pytest.approx(1, abs=1e-6)
    assert table["similarity"][1] < 1 - 1e-5
    return table["file"][0]


def test_the_part_of_its_file_is_chosen_as_in_embed(embedded, images):
    hdus = [fits.PrimaryHDU(images[0]), fits.ImageHDU(images[1], name="SCI")]
    fits.HDUList(hdus).writeto("x.fits")
    assert nearest("x.fits") == "0.npy"
    assert nearest("x.fits", "--set", "data.fits_hdu=SCI") == "1.npy"
    with h5py.File("s.h5", "w") as file:
        file["images"] = images
    assert nearest("s.h5#4") == "4.npy"
    np.save("s.npy", images)
    assert nearest("s.npy#3", "--set", "data.stacks=true") == "3.npy"


def test_bands_in_files_of_their_own(embedded, images, tmp_path):
    (tmp_path / "new").mkdir()
    np.save("new/lens_g.npy", images[2])
    bands = ["--set", "data.band_names=[g]", "--set", 'data.band_files="{id}_{band}.npy"']
    for like in ("new/lens.npy", "new/lens_g.npy", str(tmp_path / "new/lens_g.npy")):
        assert nearest(like, *bands) == "2.npy"
    (tmp_path / "new/images.yaml").write_text('band_names: [g]\nband_files: "{id}_{band}.npy"\n')
    assert nearest("new/lens.npy") == "2.npy"
    with pytest.raises(RequestError, match=r"^new/other\.npy: no such image file$"):
        search("e.npz", "new/other.npy", run="e.keras")
    with pytest.raises(DataError, match=r"its name is not as data\.band_files"):
        search("e.npz", "survey/1.npy", run="e.keras", settings=SPLIT)


def test_its_pixel_scale_is_compared_and_resampled(embedded, images):
    finer = np.kron(images[5], np.ones((2, 2)))
    np.save("finer.npy", finer)
    with pytest.raises(RequestError, match=r"of 0\.05 arcsec, .* of 0\.1 arcsec: --resample"):
        nearest("finer.npy", "--pixel-scale-arcsec", "0.05")
    with pytest.raises(DataError, match=r"finer\.npy: its pixel scale is unknown, .*-scale-arcsec"):
        nearest("finer.npy", "--resample")
    found = search(
        *("e.npz", "finer.npy"), run="e.keras", pixel_scale_arcsec=0.05, resample=True, top=2
    )
    assert pd.read_csv(found.table)["file"][0] == "5.npy"


def test_options_of_a_file_are_refused_without_one(embedded):
    for words in (["--resample"], ["--pixel-scale-arcsec", "0.1"], ["--set", "data.stacks=true"]):
        with pytest.raises(RequestError, match="say how an image file is read: give --run, the en"):
            stage.main(["--embeddings", "e.npz", "--like", "1.npy", *words])
    with pytest.raises(RequestError, match=r"^data\.image_size: search does not use it"):
        stage.main(["--embeddings", "e.npz", "--like", "1.npy", "--set", "data.image_size=8"])
