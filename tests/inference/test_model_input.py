"""Images to predict for are those that the model takes: their bands and their pixel scale."""

import numpy as np
import pandas as pd
import pytest

import deeplens_tf as dl
from deeplens_tf import prepare
from deeplens_tf import search as search_stage
from deeplens_tf.config import load_config
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference.embedding import embed
from deeplens_tf.inference.predicting import predict
from deeplens_tf.inference.searching import search
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from tests.conftest import write_blobs
from tests.evaluation.runs import finetuned

TRAINED_ARCSEC, FINER_ARCSEC = 0.1, 0.05


def smooth(side, pixel_arcsec):
    """A galaxy of 0.5 by 0.3 arcsec, wide enough that its resampling hardly changes it."""
    angles = (np.arange(side) - (side - 1) / 2) * pixel_arcsec
    return np.exp(-((angles[:, None] / 0.5) ** 2) / 2 - (angles / 0.3) ** 2 / 2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on crops of 16 pixels of 0.1 arcsec, in the band g."""
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "lenses", 4, seed=0)
    describe(tmp_path / "lenses", TRAINED_ARCSEC)
    words = ["data.image_size=16", "data.fit=crop", "data.pixel_scale_arcsec=0.1"]
    return finetuned(tmp_path / "run", load_config("finetune", words, "lenses"), depth=2)


def describe(folder, pixel_arcsec, band="g"):
    folder.mkdir(exist_ok=True)
    text = f"band_names: [{band}]\npixel_scale_arcsec: {pixel_arcsec}\n"
    (folder / "images.yaml").write_text(text)


def write_galaxy(folder, side, pixel_arcsec):
    folder.mkdir(exist_ok=True)
    np.save(folder / "galaxy.npy", smooth(side, pixel_arcsec))


def probabilities(predictions):
    table = pd.read_csv(predictions.table)
    return table[[name for name in table if name.startswith("p_")]].to_numpy()


def test_finer_pixels_are_refused_or_resampled_to_those_of_the_model(run, tmp_path):
    write_galaxy(tmp_path / "same", 16, TRAINED_ARCSEC)
    write_galaxy(tmp_path / "finer", 40, FINER_ARCSEC)
    describe(tmp_path / "finer", FINER_ARCSEC)
    with pytest.raises(RequestError, match=r"of 0\.05 arcsec, .* of 0\.1 arcsec: --resample resam"):
        predict(run.folder, "finer")
    found = probabilities(predict(run.folder, "finer", resample=True))
    expected = probabilities(predict(run.folder, "same"))
    np.testing.assert_allclose(found, expected, atol=0.001)
    # Where the folder does not say it, the caller does.
    (tmp_path / "finer" / "images.yaml").unlink()
    stated = {"pixel_scale_arcsec": FINER_ARCSEC}
    with pytest.raises(RequestError, match="--resample"):
        predict(run.folder, "finer", **stated)
    again = probabilities(predict(run.folder, "finer", resample=True, **stated))
    np.testing.assert_array_equal(again, found)
    unknown = probabilities(predict(run.folder, "finer"))  # taken for those of the training
    assert not np.allclose(unknown, expected, atol=0.005)


def test_resampling_needs_both_scales(run, tmp_path):
    write_galaxy(tmp_path / "finer", 40, FINER_ARCSEC)
    line = r"pixel scale is unknown, so it cannot be resampled: give --pixel-scale-arcsec \("
    with pytest.raises(DataError, match=line):
        predict(run.folder, "finer", resample=True)
    write_blobs(tmp_path / "unknown", 2, seed=1)
    own = finetuned(tmp_path / "other", load_config("finetune", ["data.image_size=16"], "unknown"))
    with pytest.raises(
        RequestError, match=r"^--resample: the pixel scale of the model's images is"
    ):
        predict(own.folder, "finer", resample=True)


def write_scaled(folder, scales_arcsec):
    """Write images of pixel scales that only `scales.csv` states; the order is that of names."""
    for i, scale in enumerate(scales_arcsec):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        np.save(folder / "ab"[i % 2] / f"{i}.npy", smooth(40, scale) + smooth(40, (i + 2) * scale))
    files = [f"{'ab'[i % 2]}/{i}.npy" for i in range(len(scales_arcsec))]
    table = pd.DataFrame({"file": files, "pixel_scale_arcsec": scales_arcsec})
    table.assign(label=[file[0] for file in files]).to_csv("scales.csv", index=False)
    return table


@pytest.mark.parametrize(("scales", "recorded"), [([0.1, 0.05] * 4, None), ([0.1, 0.101] * 4, 0.1)])
def test_an_unknown_scale_is_not_taken_for_one_of_several(tmp_path, monkeypatch, scales, recorded):
    monkeypatch.chdir(tmp_path)
    write_scaled(tmp_path / "mixed", scales)
    words = ["data.image_size=16", "data.resample_to_arcsec=0.1", "data.catalog=scales.csv"]
    own = finetuned(tmp_path / "own", load_config("finetune", words, "mixed"))
    how = dl.load_model(own.folder).preprocessing
    assert (how.source_scale_arcsec, how.pixel_scale_arcsec) == (recorded, 0.1)
    assert Preprocessing.from_dict(how.to_dict()) == how
    write_galaxy(tmp_path / "new", 40, TRAINED_ARCSEC)
    stated = predict(own.folder, "new", pixel_scale_arcsec=TRAINED_ARCSEC).table.read_bytes()
    if recorded:
        assert predict(own.folder, "new").table.read_bytes() == stated
        return
    unknown = r"galaxy\.npy: its pixel scale is unknown, .*: give --pixel-scale-arcsec"
    with pytest.raises(DataError, match=unknown):
        predict(own.folder, "new")
    with pytest.raises(DataError, match=unknown):
        embed(own.folder, "new")
    with pytest.raises(ValueError, match="its pixel scale is unknown"):
        how.apply([smooth(40, TRAINED_ARCSEC)])
    embed(own.folder, "new", "e.npz", pixel_scale_arcsec=TRAINED_ARCSEC)
    with pytest.raises(DataError, match=unknown):
        search("e.npz", "new/galaxy.npy", run=own.folder)
    words = ["--embeddings", "e.npz", "--like", "new/galaxy.npy", "--run", str(own.folder)]
    search_stage.main([*words, "--out", "found", "--pixel-scale-arcsec", "0.1"])
    assert pd.read_csv("found/neighbours.csv")["similarity"][0] == pytest.approx(1, abs=1e-6)


def test_the_order_of_rows_does_not_decide_which_images_are_usable(run, tmp_path):
    table = write_scaled(tmp_path / "new", [FINER_ARCSEC, *[TRAINED_ARCSEC] * 3])
    tables = []
    for rows in (table, table[::-1]):
        rows.to_csv("scales.csv", index=False)
        predictions = predict(run.folder, "new", catalog="scales.csv")
        rejected = pd.read_csv(predictions.table).dropna(subset="reason")
        assert rejected["file"].tolist() == ["a/0.npy"]
        assert (
            "of 0.05 arcsec, and those of the training images are of 0.1 arcsec: --resample"
            in (rejected["reason"][0])
        )
        tables.append(predictions.table.read_bytes())
    assert tables[0] == tables[1]
    assert tables[0].count(b"\n") == 5
    # What is stated for all is compared with what is stated for one.
    with pytest.raises(RequestError, match="--resample"):
        predict(run.folder, "new", catalog="scales.csv", pixel_scale_arcsec=FINER_ARCSEC)
    predictions = predict(run.folder, "new", catalog="scales.csv", pixel_scale_arcsec=0.1)
    (reason,) = pd.read_csv(predictions.table)["reason"].dropna()
    assert "states pixels of 0.05 arcsec, and its folder or --pixel-scale-arcsec 0.1" in reason
    assert predict(run.folder, "new", catalog="scales.csv", resample=True).count == 4


def test_a_stated_scale_must_be_that_of_the_folder(run, tmp_path):
    write_galaxy(tmp_path / "finer", 40, FINER_ARCSEC)
    describe(tmp_path / "finer", FINER_ARCSEC)
    with pytest.raises(RequestError, match=r"-arcsec is 0\.2, and finer/images\.yaml has .* 0\.05"):
        predict(run.folder, "finer", pixel_scale_arcsec=0.2, resample=True)
    (tmp_path / "finer" / "images.yaml").write_text("pixel_scale: 0.05")
    with pytest.raises(DataError, match=r"images\.yaml"):
        predict(run.folder, "finer")


def test_a_stated_scale_is_refused_where_that_of_the_model_is_unknown(run, tmp_path):
    write_blobs(tmp_path / "unknown", 4, seed=1)
    own = finetuned(tmp_path / "other", load_config("finetune", ["data.image_size=16"], "unknown"))
    with pytest.raises(RequestError, match=r"-arcsec 0\.1: the pixel scale of the model's images"):
        predict(own.folder, "unknown", pixel_scale_arcsec=0.1)


def test_other_bands_are_refused_by_name(run, tmp_path):
    write_galaxy(tmp_path / "red", 16, TRAINED_ARCSEC)
    describe(tmp_path / "red", TRAINED_ARCSEC, band="r")
    with pytest.raises(RequestError, match="red: its bands are r, and the model was trained on g"):
        predict(run.folder, "red")


def test_prepared_images_are_compared_as_they_were_prepared(run, tmp_path):
    for name, side, scale in (("same", 40, TRAINED_ARCSEC), ("finer", 40, FINER_ARCSEC)):
        write_galaxy(tmp_path / name, side, scale)
        np.save(tmp_path / name / "second.npy", smooth(side, 1.1 * scale))
        describe(tmp_path / name, scale)
    size = ["--image-size", "16", "--fit", "crop"]
    prepare.main(["same", "--out", "same-prepared", *size])
    found = pd.read_csv(predict(run.folder, "same-prepared").table, index_col="file")
    expected = pd.read_csv(predict(run.folder, "same").table, index_col="file")
    np.testing.assert_allclose(found.loc[expected.index, "p_cdm"], expected["p_cdm"], rtol=1e-5)
    prepare.main(["finer", "--out", "finer-prepared", *size])
    with pytest.raises(RequestError, match=r"pixels of 0\.05 instead of 0\.1 arcsec"):
        predict(run.folder, "finer-prepared")
    with pytest.raises(RequestError, match="prepared already, so its pixels cannot be resampled"):
        predict(run.folder, "finer-prepared", resample=True)
    prepare.main(["finer", "--out", "resampled", *size, "--set", "data.resample_to_arcsec=0.1"])
    found = pd.read_csv(predict(run.folder, "resampled").table, index_col="file")
    resampled = pd.read_csv(predict(run.folder, "finer", resample=True).table, index_col="file")
    np.testing.assert_allclose(found.loc[resampled.index, "p_cdm"], resampled["p_cdm"], rtol=1e-5)
