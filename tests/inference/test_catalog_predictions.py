"""What a catalogue calls an image, and where it is on the sky, comes out with its prediction."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from deeplens_tf import predict as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.inference.predicting import predict
from tests.conftest import blob_image
from tests.evaluation.runs import finetuned

pytestmark = pytest.mark.usefixtures("no_pictures")
PLACES = ["id", "ra", "dec"]


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """Twenty-four images without class folders, and their catalogue."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "survey").mkdir()
    generator, rows = np.random.default_rng(0), []
    for i in range(24):
        np.save(f"survey/{i:02d}.npy", blob_image(generator, i % 2))
        place = (f"00{i:03d}", f"{200 + i / 7:.12f}", f"{-i / 9:+.9f}0")
        rows.append((f"{i:02d}.npy", "ab"[i % 2], "test" if i > 15 else "train", *place))
    table = pd.DataFrame(rows, columns=["file", "label", "split", *PLACES])
    table.to_csv("catalog.csv", index=False)
    return table.set_index("file")


def config(*overrides):
    words = ["data.image_size=16", "data.catalog=catalog.csv", *overrides]
    return load_config("finetune", words, "survey")


def texts(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False).set_index("file")


def test_predictions_have_the_texts_of_the_catalogue(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    plain = texts(predict(run.folder, "survey", "plain.csv").table)
    found = texts(predict(run.folder, "survey", catalog="catalog.csv").table)
    assert list(found) == [*list(plain)[:-1], *PLACES, "reason"]
    pd.testing.assert_frame_equal(found[[*plain]], plain)
    pd.testing.assert_frame_equal(found[PLACES], survey[PLACES], check_dtype=False)


def test_images_without_a_row_are_counted_and_not_predicted(survey, tmp_path, capsys):
    run = finetuned(tmp_path / "run", config())
    few = survey.reset_index().rename(columns={"file": "path", "id": "name"})[3:]
    few.loc[len(few) + 3] = ["lost.npy", *few.iloc[0, 1:]]
    few.to_csv("few.csv", index=False)
    words = "--data survey --catalog few.csv --out p.csv --catalog-column file=path"
    stage.main(["--run", str(run.folder), *words.split(), "--catalog-column", "id=name"])
    found = texts("p.csv")
    assert found.index.tolist() == sorted(survey.index[3:])
    assert found["id"].to_dict() == survey["id"][3:].to_dict()
    out = capsys.readouterr().out
    assert "few.csv: 1 row without the file that is named: lost.npy" in out
    assert "3 images without a row in few.csv, the first: 00.npy: left out" in out


def test_a_prepared_folder_keeps_them(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    prepare.main(["survey", "--out", "prepared", "--image-size", "16", "--catalog", "catalog.csv"])
    found = texts(predict(run.folder, "prepared").table)
    found.index = found.index.str.removeprefix("test/")
    wanted = survey.loc[found.index, PLACES]
    pd.testing.assert_frame_equal(found[PLACES], wanted, check_dtype=False)
    with pytest.raises(RequestError, match="prepared already, with what its own catalogue says"):
        predict(run.folder, "prepared", catalog="catalog.csv")


@pytest.mark.parametrize("columns", [{"file": "file"}, {"mass": "x"}])
def test_columns_without_a_catalogue_are_refused(survey, tmp_path, columns):
    run = finetuned(tmp_path / "run", config())
    catalog = "catalog.csv" if "mass" in columns else None
    with pytest.raises(RequestError, match=r"without a catalogue|mass is none of file"):
        predict(run.folder, "survey", catalog=catalog, catalog_columns=columns)


def test_evaluate_writes_them_with_each_scored_image(survey, tmp_path):
    run = finetuned(tmp_path / "run", config())
    folder, _ = evaluate_run(run)
    probed, _ = evaluate_probe(run)
    for found in (texts(folder / "predictions.csv"), texts(probed / "predictions.csv")):
        assert len(found) == 8
        wanted = survey.loc[found.index, PLACES]
        pd.testing.assert_frame_equal(found[PLACES], wanted, check_dtype=False)
        assert list(found)[-3:] == PLACES


def test_pixel_scales_of_a_column_are_those_of_headers(survey, tmp_path):
    run = finetuned(tmp_path / "run", config("data.fit=crop", "data.pixel_scale_arcsec=0.2"))
    finer, generator = [2.0**-14, 2.0**-15], np.random.default_rng(9)  # deg
    for name in ("headers", "column"):
        (tmp_path / name).mkdir()
    for i in range(6):
        image = np.kron(blob_image(generator, i % 2), np.ones((3, 3)))
        cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"} | dict.fromkeys(
            ("CDELT1", "CDELT2"), finer[i % 2]
        )
        fits.PrimaryHDU(image, fits.Header(list(cards.items()))).writeto(f"headers/{i}.fits")
        np.save(f"column/{i}.npy", image)
    table = pd.DataFrame({"file": [f"{i}.npy" for i in range(6)]})
    table.assign(s=[3600 * finer[i % 2] for i in range(6)]).to_csv("scales.csv", index=False)
    of_headers = texts(predict(run.folder, "headers", resample=True).table)
    words = ["--data", "column", "--out", "p.csv", "--catalog", "scales.csv"]
    words += ["--catalog-column", "pixel_scale=s"]
    with pytest.raises(DataError, match=r"6 of 6 files .* be of 0\.2197 arcsec, .* --resample res"):
        stage.main(["--run", str(run.folder), *words])
    stage.main(["--run", str(run.folder), *words, "--resample"])
    found = texts("p.csv")
    found.index = found.index.str.replace(".npy", ".fits")
    pd.testing.assert_frame_equal(found, of_headers)
    unscaled = texts(predict(run.folder, "column", catalog="scales.csv").table)
    assert (unscaled["p_a"].to_numpy() != found["p_a"].to_numpy()).all()


CHANGED = "the test split is not the one that the run started with: its images, labels or values"


def test_labels_that_were_changed_after_the_training_are_named(survey, tmp_path, capsys):
    run = finetuned(tmp_path / "run", config())
    _, before = evaluate_run(run)
    assert not [note for note in before["notes"] if note.startswith(CHANGED)]
    scored = survey["split"] == "test"
    survey.loc[scored, "label"] = survey.loc[scored, "label"].map({"a": "b", "b": "a"})
    survey.reset_index().to_csv("catalog.csv", index=False)
    capsys.readouterr()
    _, after = evaluate_run(run)
    assert after["accuracy"] == pytest.approx(1 - before["accuracy"])  # prepared again
    assert [note for note in after["notes"] if note.startswith(CHANGED)]
    assert CHANGED in capsys.readouterr().out
    survey.loc[~scored, "id"] += "x"  # of no scored image, and no label
    survey.loc[scored, "label"] = survey.loc[scored, "label"].map({"a": "b", "b": "a"})
    survey.reset_index().to_csv("catalog.csv", index=False)
    assert evaluate_run(run)[1]["notes"] == before["notes"]
