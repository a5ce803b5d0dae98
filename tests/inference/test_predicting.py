"""Predictions for a folder: those of evaluate, for every usable file, and what is refused."""

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import deeplens_tf as dl
from deeplens_tf import predict as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.inference import new_images
from deeplens_tf.inference.predicting import predict
from deeplens_tf.saving.keras_files import load_model
from tests.conftest import CLASSES, write_blobs
from tests.evaluation.runs import break_weights, finetuned, write_masses

pytestmark = pytest.mark.usefixtures("no_pictures", "eager_steps")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of the test's own to work in, with six images of each class in `lenses`."""
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "lenses", 6, seed=0)
    write_masses(tmp_path / "lenses", "axion", 6)
    write_blobs(tmp_path / "survey", 4, seed=1)
    return tmp_path


def configured(*overrides, data="lenses"):
    return load_config("finetune", ["data.image_size=16", *overrides], data)


@pytest.fixture
def run(elsewhere):
    return finetuned(elsewhere / "run", configured())


@pytest.mark.parametrize("batch_size", [5, 256])
def test_predictions_are_those_of_evaluate_in_name_order(run, batch_size, monkeypatch):
    monkeypatch.setattr(new_images, "BATCH_SIZE", batch_size)
    found = pd.read_csv(predict(run.folder, "survey").table)
    folder, _ = evaluate_run(run, configured(data="survey"))
    expected = pd.read_csv(folder / "predictions.csv").sort_values("file", ignore_index=True)
    assert list(found)[:2] == ["file", "predicted"]
    assert found["file"].tolist() == expected["file"].tolist() == sorted(found["file"])
    assert found["predicted"].tolist() == expected["predicted"].tolist()
    columns = [f"p_{name}" for name in CLASSES]
    np.testing.assert_allclose(found[columns], expected[columns], rtol=1e-5)
    assert list(found)[2:] == [*columns, "unlike_training", "reason"]


def test_masses_are_predicted_as_evaluate_does(elsewhere):
    write_masses(elsewhere / "survey", "axion", 4, seed=2)
    run = finetuned(elsewhere / "run", configured("finetune.head=regression"))
    found = pd.read_csv(dl.inference.predict(run.folder, "survey").table)
    assert list(found) == ["file", "predicted", "std_dex", "unlike_training", "reason"]
    folder, _ = evaluate_run(run, configured("finetune.head=regression", data="survey"))
    expected = pd.read_csv(folder / "predictions.csv").set_index("file")
    with_mass = found.set_index("file").loc[expected.index]
    np.testing.assert_allclose(with_mass["predicted"], expected["predicted"], rtol=1e-5)
    assert len(found) == 12


def test_images_of_any_size_and_layout_are_resized_as_those_of_the_training(run, elsewhere, capsys):
    folder = elsewhere / "mixed"
    (folder / "train").mkdir(parents=True)  # a name that a class must not have
    generator = np.random.default_rng(4)
    images = {"a.npy": generator.random((32, 32)), "train/b.npy": generator.random((1, 16, 16))}
    for name, image in images.items():
        np.save(folder / name, image)
    np.savez(folder / "c.npz", generator.random((16, 16)))
    images["c.npz"] = np.load(folder / "c.npz")["arr_0"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"a\.npy has 32 x 32 pixels.*: give --mixed-sizes"):
        predict(run.folder, folder)
    table = predict(run.folder, folder, mixed_sizes=True).table
    assert "1 .txt file passed over" in capsys.readouterr().out
    found = pd.read_csv(table).set_index("file")
    assert list(found.index) == ["a.npy", "c.npz", "train/b.npy"]
    model = load_model(run.model)
    for name, image in images.items():
        flat = np.squeeze(image)
        half = (
            flat.reshape(16, len(flat) // 16, 16, -1).mean(axis=(1, 3)) if len(flat) > 16 else flat
        )
        scaled = (half - half.min()) / (half.max() - half.min())
        expected = model.predict(scaled[None, ..., None], verbose=0)[0]
        # Pillow's triangle filter is wider than the mean of four pixels.
        tolerance = 1e-5 if len(flat) == 16 else 0.2
        np.testing.assert_allclose(found.loc[name, "p_cdm"], expected[1], atol=tolerance)


def test_a_folder_of_images_of_another_size_than_in_training_names_what_to_do(run, elsewhere):
    (elsewhere / "wide").mkdir()
    np.save(elsewhere / "wide" / "a.npy", np.random.default_rng(4).random((40, 40)))
    line = r"of the training has 16 x 16 pixels, a\.npy has 40 x 40 .*: give --mixed-sizes"
    with pytest.raises(DataError, match=line):
        predict(run.folder, "wide")
    assert predict(run.folder, "wide", mixed_sizes=True).count == 1


def test_files_that_cannot_be_used_have_rows_with_their_reasons(run, elsewhere, capsys):
    expected = pd.read_csv(predict(run.folder, "survey").table, dtype=str).set_index("file")
    (elsewhere / "survey" / "cdm" / "cdm_sim_000.npy").write_bytes(b"junk")
    np.save(elsewhere / "survey" / "flat.npy", np.ones((16, 16)))
    np.save(elsewhere / "survey" / "rgb.npy", np.random.default_rng(0).random((16, 16, 3)))
    predictions = predict(run.folder, "survey")
    assert (predictions.count, predictions.rejected) == (11, 3)
    found = pd.read_csv(predictions.table, dtype=str).set_index("file")
    assert found.index.tolist() == sorted([*expected.index, "flat.npy", "rgb.npy"])
    rejected = found[found["reason"].notna()]
    assert rejected.index.tolist() == ["cdm/cdm_sim_000.npy", "flat.npy", "rgb.npy"]
    assert rejected.drop(columns="reason").isna().all(axis=None)
    assert "constant" in rejected["reason"]["flat.npy"]
    assert "3 bands" in rejected["reason"]["rgb.npy"]
    assert (
        f"3 of 14 files rejected, the first: cdm/cdm_sim_000.npy: {rejected['reason'].iloc[0]}"
        in (capsys.readouterr().err)
    )
    usable = found[found["reason"].isna()]
    pd.testing.assert_frame_equal(usable, expected.loc[usable.index])


def test_a_folder_without_a_usable_image_ends_with_exit_code_3(run, elsewhere):
    (elsewhere / "empty").mkdir()
    (elsewhere / "empty" / "a.npy").write_bytes(b"junk")
    with pytest.raises(
        DataError, match=r"empty: no usable image in it; 1 of 1 files rejected"
    ) as e:
        predict(run.folder, "empty")
    assert e.value.exit_code == 3
    (table,) = (run.folder / "predictions").iterdir()
    assert pd.read_csv(table)["reason"].str.contains("npy").tolist() == [True]
    (elsewhere / "empty" / "a.npy").unlink()
    with pytest.raises(DataError, match=r"no usable image in it; no image file is in it"):
        predict(run.folder, "empty")
    with pytest.raises(RequestError, match="no such folder"):
        predict(run.folder, "nowhere")


def test_a_prepared_folder_is_read_from_its_shards(run, elsewhere):
    write_blobs(elsewhere / "survey_test", 2, seed=3)
    prepare.main(["survey", "--out", "prepared", "--image-size", "16"])
    found = pd.read_csv(predict(run.folder, "prepared").table).set_index("file")
    raw = pd.read_csv(predict(run.folder, "survey").table).set_index("file")
    tests = pd.read_csv(predict(run.folder, "survey_test").table).set_index("file")
    assert len(found) == len(raw) + len(tests) == 18
    columns = [f"p_{name}" for name in CLASSES]
    expected = pd.concat([raw, tests.rename(index=lambda name: f"test/{name}")])
    np.testing.assert_allclose(found.loc[expected.index][columns], expected[columns], rtol=1e-5)
    prepare.main(["survey", "--out", "larger", "--image-size", "24"])
    with pytest.raises(RequestError, match="image_size 24 instead of 16"):
        predict(run.folder, "larger")


def test_predictions_replace_earlier_ones_and_nothing_else(run, elsewhere):
    first = predict(run.folder, "survey", "out.csv").table
    (elsewhere / "survey" / "cdm" / "cdm_sim_000.npy").unlink()
    second = predict(run.folder, "survey", "out.csv")
    assert (first, second.count) == (second.table, 11)
    folder, _ = evaluate_run(run, configured(data="survey"))
    (elsewhere / "notes.csv").write_text("mine")
    for other in (elsewhere / "notes.csv", folder / "predictions.csv"):
        before = other.read_bytes()
        with pytest.raises(RequestError, match="is no table of predictions"):
            predict(run.folder, "survey", other)
        assert other.read_bytes() == before
    with pytest.raises(RequestError, match="lies inside"):
        predict(run.folder, "survey", "survey/out.csv")


def test_a_folder_of_the_same_name_has_predictions_of_its_own(run, elsewhere):
    write_blobs(elsewhere / "other" / "survey", 2, seed=1)
    tables = {predict(run.folder, name).table for name in ("survey", "other/survey", "survey")}
    assert len(tables) == 2
    assert all(table.name.startswith("survey-") for table in tables)


def test_the_file_of_a_model_is_enough(run, elsewhere):
    copied = elsewhere / "mine.keras"
    copied.write_bytes(run.model.read_bytes())
    table = predict(copied, "survey").table
    assert table.parent == elsewhere / "predictions"
    assert table.read_bytes() == predict(run.folder, "survey").table.read_bytes()


def without_preprocessing(run):
    """Make the run's model one of an earlier version."""
    model = keras.saving.load_model(run.model)
    model.encoder.preprocessing = model.training_range = None
    model.save(run.model)


def test_a_model_of_an_earlier_version_takes_the_preprocessing_of_its_run(run, elsewhere, capsys):
    expected = pd.read_csv(predict(run.folder, "survey").table)
    without_preprocessing(run)
    capsys.readouterr()
    predictions = predict(run.folder, "survey")
    assert "of an earlier version; resize to 16 pixels is its run's" in capsys.readouterr().out
    found = pd.read_csv(predictions.table)
    pd.testing.assert_frame_equal(
        found.drop(columns="unlike_training"), expected.drop(columns="unlike_training")
    )
    assert expected["unlike_training"].notna().all()
    assert found["unlike_training"].isna().all()
    assert predictions.unlike_training is None
    alone = elsewhere / "alone.keras"
    alone.write_bytes(run.model.read_bytes())
    with pytest.raises(RequestError, match="does not record the preprocessing"):
        predict(alone, "survey")


def test_a_diverged_model_is_refused_and_its_file_named(run):
    break_weights(run)
    with pytest.raises(RequestError, match=r"model\.keras: the outputs .* are not finite"):
        predict(run.folder, "survey")


def test_the_stage_takes_the_newest_run(run, elsewhere, capsys):
    (elsewhere / "runs").mkdir(exist_ok=True)
    run.folder.rename(elsewhere / "runs" / "it")
    stage.main(["--data", "survey"])
    out = capsys.readouterr().out
    assert out.startswith("run: runs/it, the newest fine-tuning run")
    assert "predictions: runs/it/predictions/survey-" in out
    assert ".csv, of 12 images" in out
    for value in ("0", "nan", "-1"):
        with pytest.raises(RequestError, match="--pixel-scale-arcsec must be above 0"):
            stage.main(["--data", "survey", "--pixel-scale-arcsec", value])


def test_fits_images_are_predicted_as_their_copies_with_the_hdu_of_the_run(elsewhere):
    run = finetuned(elsewhere / "run", configured("data.fits_hdu=SCI"))
    (elsewhere / "copies").mkdir()
    for path in (elsewhere / "survey").rglob("*.npy"):
        image = fits.ImageHDU(np.load(path), name="SCI")
        others = [fits.PrimaryHDU(np.random.default_rng(0).random((16, 16)))]
        fits.HDUList([*others, image]).writeto(elsewhere / "copies" / f"{path.stem}.fits")

    def predicted(folder):
        table = pd.read_csv(predict(run.folder, folder).table)
        table["file"] = [name.rsplit("/")[-1].partition(".")[0] for name in table["file"]]
        return table.sort_values("file", ignore_index=True)

    pd.testing.assert_frame_equal(predicted("copies"), predicted("survey"))
    # What the folder says of its images goes before the run's setting.
    (elsewhere / "copies" / "images.yaml").write_text("fits_hdu: 0\n")
    assert predicted("copies")["p_cdm"].nunique() == 1


def test_the_images_of_a_stack_are_predicted_as_their_copies(run, elsewhere):
    paths = sorted((elsewhere / "survey").rglob("*.npy"))
    (elsewhere / "stacked").mkdir()
    with h5py.File(elsewhere / "stacked" / "x.h5", "w") as file:
        file["images"] = np.stack([np.load(path) for path in paths])
    found = pd.read_csv(predict(run.folder, "stacked").table).set_index("file")
    expected = pd.read_csv(predict(run.folder, "survey").table).set_index("file")
    found = found.loc[[f"x.h5#{row}" for row in range(len(paths))]]
    expected = expected.loc[[f"{path.parent.name}/{path.name}" for path in paths]]
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


def test_files_of_bands_are_predicted_as_the_run_has_read_them(elsewhere):
    expected = sorted(path.name for path in (elsewhere / "survey").rglob("*.npy"))
    for path in [*(elsewhere / "lenses").rglob("*.npy"), *(elsewhere / "survey").rglob("*.npy")]:
        path.rename(path.with_name(f"{path.stem}_g.npy"))
    words = ["data.band_names=[g]", 'data.band_files="{id}_{band}.npy"']
    run = finetuned(elsewhere / "run", configured(*words))
    found = pd.read_csv(predict(run.folder, "survey").table)
    assert sorted(name.rpartition("/")[2] for name in found["file"]) == expected
