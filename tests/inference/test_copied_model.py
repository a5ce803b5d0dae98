"""A model's file knows which part of a file is its image, wherever it is copied to."""

import json
import zipfile
from dataclasses import replace

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from deeplens_tf import predict as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.inference.predicting import predict
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.saving.keras_files import load_encoder, load_model, save_encoder
from tests.conftest import write_blobs
from tests.evaluation.runs import finetuned

COUNT = 5


def write_fits(folder):
    for i in range(COUNT):
        noise, image = np.random.default_rng(i).random((2, 16, 16))
        hdus = [fits.PrimaryHDU(noise), fits.ImageHDU(image, name="SCI")]
        fits.HDUList(hdus).writeto(folder / f"{i}.fits")
    return [fits.getdata(folder / f"{i}.fits", "SCI") for i in range(COUNT)]


def write_hdf5(folder):
    noise, images = np.random.default_rng(0).random((2, COUNT, 16, 16))
    with h5py.File(folder / "x.h5", "w") as file:
        file["noise"], file["images"] = noise, images
    return list(images)


def write_stack(folder):
    images = np.random.default_rng(0).random((COUNT, 16, 16))
    np.save(folder / "x.npy", images)
    return list(images)


def write_bands(folder):
    images = np.random.default_rng(0).random((COUNT, 16, 16))
    for i, image in enumerate(images):
        np.save(folder / f"{i}_g.npy", image)
    return list(images)


LAYOUTS = [
    (["data.fits_hdu=SCI"], write_fits),
    (["data.hdf5_dataset=images"], write_hdf5),
    (["data.stacks=true"], write_stack),
    (["data.band_names=[g]", 'data.band_files="{id}_{band}.npy"'], write_bands),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "lenses", 4, seed=0)
    (tmp_path / "survey").mkdir()
    return tmp_path


def trained(place, words):
    if any("band_files" in word for word in words):
        for path in [*(place / "lenses").rglob("*.npy")]:
            path.rename(path.with_name(f"{path.stem}_g.npy"))
    config = load_config("finetune", ["data.image_size=16", *words], "lenses")
    return finetuned(place / "run", config)


@pytest.mark.parametrize(("words", "write"), LAYOUTS)
def test_a_copied_model_predicts_as_in_its_run(place, words, write, capsys):
    images = write(place / "survey")
    run = trained(place, words)
    (place / "copied.keras").write_bytes(run.model.read_bytes())
    capsys.readouterr()
    copied = predict("copied.keras", "survey").table
    assert "not in the folder of its run" not in capsys.readouterr().out
    assert copied.read_bytes() == predict(run.folder, "survey").table.read_bytes()
    found = pd.read_csv(copied)
    scaled = [(each - each.min()) / (each.max() - each.min()) for each in images]
    expected = load_model(run.model).predict(np.stack(scaled)[..., None], verbose=0)
    columns = [name for name in found if name.startswith("p_")]
    np.testing.assert_allclose(found[columns], expected, rtol=1e-4)
    assert len(np.unique(expected[:, 0])) == COUNT


def test_an_encoders_file_keeps_it(place):
    words = ["data.fits_hdu=SCI", "data.hdf5_dataset=images", "data.stacks=false"]
    encoder = load_model(trained(place, words).model).encoder
    save_encoder(encoder, "encoder.keras")
    expected = Selection(fits_hdu="SCI", hdf5_dataset="images", stacks=False)
    assert load_encoder("encoder.keras").preprocessing.selection == expected


def test_a_model_of_an_earlier_version_says_what_it_does_not_know(place, capsys):
    write_fits(place / "survey")
    run = trained(place, ["data.fits_hdu=SCI"])
    expected = predict(run.folder, "survey").table.read_bytes()
    model = keras.saving.load_model(run.model)
    model.encoder.preprocessing = replace(model.preprocessing, selection=None)
    model.save(run.model)
    with zipfile.ZipFile(run.model) as archive:
        stored = json.loads(archive.read("config.json"))["config"]["encoder"]["config"]
    assert stored["preprocessing"]["version"] == 1  # which earlier versions read
    assert predict(run.folder, "survey").table.read_bytes() == expected
    (place / "alone.keras").write_bytes(run.model.read_bytes())
    for folder, lines in (("survey", 1), ("lenses", 0)):
        capsys.readouterr()
        predict("alone.keras", folder, "out.csv")
        line = "alone.keras: not in the folder of its run, so the HDU of its training is unknown"
        assert capsys.readouterr().out.count(line) == lines


@pytest.mark.parametrize(
    "damage",
    [
        *({"fits_hdu": -1}, {"fits_hdu": ""}, {"fits_hdu": True}, {"hdf5_dataset": 3}),
        *({"stacks": 1}, {"band_files": ["x"]}, {"band_names": "g"}, {"more": None}),
    ],
)
def test_a_damaged_selection_is_refused(damage):
    stored = Selection("SCI", "a", True, "{id}_{band}.fits", ("g", "r")).to_dict()
    assert Selection.from_dict(stored).to_dict() == stored
    with pytest.raises(ValueError, match="selection"):
        Selection.from_dict(stored | damage)


@pytest.mark.parametrize(("words", "write"), LAYOUTS)
def test_a_folder_of_another_layout_is_read_as_the_caller_says(place, words, write):
    images = write(place / "survey")
    (place / "plain").mkdir()
    for i, image in enumerate(images):
        np.save(place / "plain" / f"{i}.npy", image)
    plain = finetuned(
        place / "plain-run", load_config("finetune", ["data.image_size=16"], "lenses")
    )
    expected = pd.read_csv(predict(plain.folder, "plain").table)
    sets = [word for each in words for word in ("--set", each)]
    stage.main(["--run", str(plain.folder), "--data", "survey", "--out", "out.csv", *sets])
    found = pd.read_csv("out.csv")
    # Rows of a stack are in their order.
    pd.testing.assert_frame_equal(found.drop(columns="file"), expected.drop(columns="file"))
    # A run on this layout predicts for the plain files if it is undone.
    run = trained(place, words)
    undone = [word for each in words for word in ("--set", f"{each.partition('=')[0]}=null")]
    stage.main(["--run", str(run.folder), "--data", "plain", "--out", "undone.csv", *undone])
    found = pd.read_csv("undone.csv")
    pd.testing.assert_frame_equal(found, expected)


def test_what_contradicts_the_folder_or_is_no_such_setting_is_refused(place):
    write_fits(place / "survey")
    run = trained(place, [])
    (place / "survey" / "images.yaml").write_text("fits_hdu: SCI\n")
    expected = predict(run.folder, "survey").table.read_bytes()
    for same in ("SCI", None):
        found = predict(run.folder, "survey", settings={"fits_hdu": same}).table
        assert found.read_bytes() == expected
    line = r"data\.fits_hdu is 0, and survey has SCI: set data\.fits_hdu=null, or correct survey/im"
    with pytest.raises(RequestError, match=line):
        predict(run.folder, "survey", settings={"fits_hdu": 0})
    with pytest.raises(RequestError, match=r"data\.stacks must be true or false"):
        predict(run.folder, "survey", settings={"stacks": "yes"})
    prepare.main(["lenses", "--out", "prepared", "--image-size", "16"])
    with pytest.raises(RequestError, match=r"prepared already: leave data\.stacks out"):
        predict(run.folder, "prepared", settings={"stacks": True})
    words = ["--run", str(run.folder), "--data", "survey", "--set"]
    for key in ("data.image_size=8", "data.pixel_scale_arcsec=1", "train.epochs=1", "data={}"):
        with pytest.raises(RequestError, match=rf"^{key.partition('=')[0]}: predict does not use"):
            stage.main([*words, key])
