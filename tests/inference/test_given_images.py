"""What predict and embed read: paths, a folder or a catalogue, by the names that were given."""

import csv
import io
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import deeplens_tf as dl
from deeplens_tf import embed as embed_stage
from deeplens_tf import predict as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.data.image_properties import image_properties
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import new_images
from deeplens_tf.inference.embedding import embed
from deeplens_tf.inference.given_images import given_images, home_of, place_of
from deeplens_tf.inference.predicting import predict
from deeplens_tf.inference.reading import Reading
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.selection import Selection
from tests.conftest import write_blobs
from tests.evaluation.runs import finetuned

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_blobs(folder / "lenses", 2, seed=0)
    words = ["data.image_size=16", f"data.cache={folder / 'cache'}"]
    return finetuned(folder / "run", load_config("finetune", words, str(folder / "lenses")))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Files of many kinds, each with an image of its own, and what `predict --data` says of it."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).random((8, 16, 16))
    (tmp_path / "survey/inside").mkdir(parents=True)
    for i, name in enumerate(("a.npy", "b.npy", "inside/c.npy")):
        np.save(tmp_path / "survey" / name, images[i])
    fits.PrimaryHDU(images[3]).writeto("x.fits")
    with h5py.File("s.h5", "w") as file:
        file["images"] = images[4:7]
    np.save("d.npy", images[7])
    return images


def table(predictions):
    return pd.read_csv(predictions.table).set_index("file")


def expected(run, images):
    """The probabilities of images, by the model itself."""
    return dl.load_model(run.folder).predict_images(images)


def test_files_folders_and_stacks_have_the_names_that_were_given(run, place, monkeypatch):
    monkeypatch.setattr(new_images, "BATCH_SIZE", 3)  # of eight images
    given = ["x.fits", "survey", "s.h5", "d.npy"]
    found = table(predict(run.folder, given))
    rows = {"x.fits": 3, "survey/a.npy": 0, "survey/b.npy": 1, "survey/inside/c.npy": 2}
    rows |= {"s.h5#0": 4, "s.h5#1": 5, "s.h5#2": 6, "d.npy": 7}
    assert found.index.tolist() == [*rows]
    columns = [name for name in found if name.startswith("p_")]
    outputs = expected(run, place)[[*rows.values()]]
    np.testing.assert_allclose(found[columns], outputs, rtol=1e-5)
    assert len(np.unique(outputs[:, 0])) == 8
    # A row of a stack has the name that the table gives it, and one file needs no list.
    pd.testing.assert_frame_equal(table(predict(run.folder, ["s.h5#1"])), found.loc[["s.h5#1"]])
    pd.testing.assert_frame_equal(table(predict(run.folder, "d.npy")), found.loc[["d.npy"]])
    features = np.load(embed(run.folder, given, "e.npz").file)
    assert features["file"].tolist() == [*rows]
    encoder = dl.load_encoder(run.folder)
    np.testing.assert_allclose(
        features["features"], encoder.features(place[[*rows.values()]]), rtol=1e-4, atol=1e-5
    )


def test_paths_keep_their_order_where_folders_are_read_differently(place, tmp_path):
    (tmp_path / "survey/images.yaml").write_text("hdf5_dataset: images\n")
    paths = ["d.npy", "survey/b.npy", "s.h5#2", "x.fits", "s.h5#0", "survey/a.npy", "s.h5"]
    given = given_images(paths)
    readings = {
        home: Reading(Preprocessing(16, "crop", 1), image_properties(of).selection)
        for home, of in given.places.items()
    }
    assert len(set(readings.values())) == 2
    images = new_images.NewImages(given, readings)
    assert images.names(range(images.count)) == [*paths[:-1], "s.h5#1"]


def test_files_of_bands_keep_the_order_of_their_paths(place, tmp_path):
    for name in ("z_g.npy", "b_r.npy", "b_g.npy", "a_g.npy"):
        np.save(name, place[0])
    given = given_images(["z_g.npy", "b_r.npy", "a_g.npy", "b_g.npy"])
    bands = Selection(band_files="{id}_{band}.npy", band_names=("g", "r"))
    images = new_images.NewImages(given, {Path(): Reading(Preprocessing(16, "crop", 2), bands)})
    assert images.names(range(images.count)) == ["z.npy", "b.npy", "a.npy"]


def test_memory_holds_a_batch_of_them(run, place, monkeypatch):
    monkeypatch.setattr(new_images, "BATCH_SIZE", 3)
    read, given = [], given_images(["survey", "s.h5"])
    how = dl.load_encoder(run.folder).preprocessing

    def image(_, file, sizes):
        read.append(file.name)
        return np.zeros((1, 1, 1)), 0

    monkeypatch.setattr(Reading, "image", image)
    images = new_images.NewImages(given, dict.fromkeys(given.places, Reading(how)))
    batches = images.batches()
    assert next(batches).files == read == ["survey/a.npy", "survey/b.npy", "survey/inside/c.npy"]
    assert next(batches).files == read[3:] == ["s.h5#0", "s.h5#1", "s.h5#2"]


def test_the_command_line_takes_them_too(run, place, tmp_path, capsys):
    names = ["-dash.npy", "\udcff.npy", "new\nline.npy", "two words.npy"]  # \udcff: the byte 255
    for name, image in zip(names, place, strict=False):
        with Path(name).open("wb") as file:
            np.save(file, image)
    stage.main(["--run", str(run.folder), "--out", "out.csv", "--", *names])
    text = Path("out.csv").read_text("utf-8", "surrogateescape")
    assert [row[0] for row in csv.reader(io.StringIO(text, ""))] == ["file", *names]
    embed_stage.main(["--run", str(run.folder), "--out", "e.npz", "--", *names])
    assert np.load("e.npz")["file"].tolist() == names
    with pytest.raises(RequestError, match=r"not a name in UTF-8"):
        stage.main(["--run", names[1], "d.npy"])
    assert "predictions: out.csv, of 4 images" in capsys.readouterr().out


def test_an_image_that_is_given_twice_is_used_once_and_that_is_said(run, place, capsys):
    found = table(predict(run.folder, ["survey/b.npy", "./survey/a.npy", "survey", "s.h5#0"]))
    assert found.index.tolist() == [
        *("survey/b.npy", "survey/a.npy", "survey/inside/c.npy", "s.h5#0"),
    ]
    assert "2 images named more than once: each is used once" in capsys.readouterr().out


def test_what_images_yaml_says_counts_for_a_file_of_its_folder(run, place, tmp_path):
    hdus = [fits.PrimaryHDU(place[0]), fits.ImageHDU(place[1], name="SCI")]
    for name in ("one", "two/inside"):
        (tmp_path / name).mkdir(parents=True)
        fits.HDUList(hdus).writeto(f"{name}/x.fits")
    (tmp_path / "two/images.yaml").write_text("fits_hdu: SCI\n")
    found = table(predict(run.folder, ["two/inside/x.fits", "one/x.fits", "two/inside"]))
    assert found.index.tolist() == ["two/inside/x.fits", "one/x.fits"]
    np.testing.assert_allclose(found["p_cdm"], expected(run, place[[1, 0]])[:, 1], rtol=1e-5)
    sci = table(predict(run.folder, ["one/x.fits"], settings={"fits_hdu": "SCI"}))
    np.testing.assert_allclose(sci["p_cdm"], found["p_cdm"].iloc[:1], rtol=1e-6)


def test_the_folder_above_is_looked_at_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/images.yaml").touch()
    for here, path, wanted in (
        *(("a/b", "x.npy", ".."), ("a/b/c", "../x.npy", "../.."), ("a", "x.npy", ".")),
        *(("a", "b/x.npy", "."), ("a", "b", "."), (".", "a/b/c/x.npy", "a/b/c")),
    ):
        monkeypatch.chdir(tmp_path / here)
        found = place_of(home_of(Path(path)))
        assert found.resolve() == (tmp_path / here / wanted).resolve(), (here, path)


def test_bands_in_files_of_their_own(run, place, tmp_path):
    for i in range(2):
        np.save(f"{i}_g.npy", place[i])
    settings = {"band_names": ["g"], "band_files": "{id}_{band}.npy"}
    paths = ["1_g.npy", "0_g.npy", "d.npy"]
    predictions = predict(run.folder, paths, settings=settings)
    reasons = table(predictions)["reason"]
    assert reasons.index[reasons.isna()].tolist() == ["1.npy", "0.npy"]
    assert "its name is not as data.band_files" in reasons["d.npy"]
    sets = ["--set", "data.band_names=[g]", "--set", 'data.band_files="{id}_{band}.npy"']
    embed_stage.main(["--run", str(run.folder), *paths, "--out", "e.npz", *sets])
    assert np.load("e.npz")["file"].tolist() == ["1.npy", "0.npy"]


def test_a_catalogue_alone_names_the_images_of_its_own_folder(run, place, capsys):
    rows = [("b.npy", "second"), ("inside/c.npy", "third")]
    pd.DataFrame(rows, columns=["file", "id"]).to_csv("survey/c.csv", index=False)
    of_folder = predict(run.folder, "survey", "one.csv", catalog="survey/c.csv").table
    assert "1 image without a row in c.csv" in capsys.readouterr().out
    stage.main(["--run", str(run.folder), "--catalog", "survey/c.csv", "--out", "two.csv"])
    assert "without a row" not in capsys.readouterr().out
    assert pd.read_csv("two.csv")["id"].tolist() == ["second", "third"]
    assert of_folder.read_bytes() == Path("two.csv").read_bytes()
    embed_stage.main(["--run", str(run.folder), "--catalog", "survey/c.csv", "--out", "e.npz"])
    assert np.load("e.npz")["id"].tolist() == ["second", "third"]
    # A table of a stranger must not name files elsewhere.
    for name in ("../d.npy", str(Path("survey/b.npy").resolve())):
        pd.DataFrame({"file": ["b.npy", name]}).to_csv("survey/c.csv", index=False)
        with pytest.raises(DataError, match=r"leads out of the data folder; paths are relative"):
            predict(run.folder, catalog="survey/c.csv")


def test_wrong_requests_end_in_one_line(run, place, tmp_path):
    fits.BinTableHDU.from_columns([fits.Column("a", "D", array=[1.0])]).writeto("table.fits")
    np.save("rgb.npy", np.random.default_rng(0).random((16, 16, 3)))
    (tmp_path / "empty").mkdir()
    prepare.main(["survey", "--out", "prepared", "--image-size", "16"])
    pd.DataFrame({"file": ["b.npy"]}).to_csv("survey/c.csv", index=False)
    Path("link.npy").symlink_to("nowhere")
    words = ["--run", str(run.folder)]
    for arguments, error, line in (
        (["*.fit"], RequestError, r"^\*\.fit: no such folder or file: no file has a name of this"),
        (["d.npy", "gone.npy"], RequestError, r"^gone\.npy: no such folder or file$"),
        (["d.npy", "--data", "survey"], RequestError, r"^--data survey and 1 path, the first d\.n"),
        (["d.npy", "--catalog", "survey/c.csv"], RequestError, r"^--catalog survey/c\.csv: names"),
        (["prepared", "d.npy"], RequestError, r"^prepared: prepared already: give it alone, by"),
        ([], RequestError, r"^no images: give files or folders, --data FOLDER or --catalog TABLE$"),
        (["--catalog-column", "id=x"], RequestError, r"without a catalogue"),
        (
            ["table.fits"],
            DataError,
            r"^table\.fits: no usable image in it; 1 of 1 files rejected.*",
        ),
        (["rgb.npy", "link.npy"], DataError, r"^rgb\.npy and 1 more: no usable image.*2 of 2 fil"),
        (["empty"], DataError, r"^empty: no usable image in it; no image file is in it$"),
    ):
        for main in (stage.main, embed_stage.main):
            with pytest.raises(error, match=line) as raised:
                main([*words, *arguments])
            assert "\n" not in str(raised.value)
    with pytest.raises(RequestError, match=r"the list of files and folders is empty"):
        predict(run.folder, [])


def test_a_run_without_a_model_is_named(run, place, tmp_path):
    for name in ("half", "pretrained"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("seed: 0\n")
    dl.save_encoder(dl.load_encoder(run.folder), "pretrained/encoder.keras")
    for folder, line in (
        ("half", r"^half: holds no model; its run has not finished"),
        ("pretrained", r"^pretrained: holds no fine-tuned model, only an encoder: .*embed"),
        ("pretrained/encoder.keras", r"holds a VisionTransformer, not a fine-tuned model"),
    ):
        with pytest.raises(RequestError, match=line):
            predict(folder, ["d.npy"])
    with pytest.raises(RequestError, match=r"^half: holds no model; its run has not finished"):
        embed("half", ["d.npy"])


def test_outputs_are_named_after_what_was_given(place):
    names = [given_images(data).output_name for data in (["d.npy"], ["d.npy", "x.fits"], "survey")]
    assert [name.rpartition("-")[0] for name in names] == ["d.npy", "d.npy", "survey"]
    assert len(set(names)) == 3
    assert given_images(["d.npy", "x.fits"]).output_name == names[1]
