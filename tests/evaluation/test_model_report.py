"""The report on a model: every image once, in batches of any size, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.inference.predicting import predict
from deeplens_tf.saving.keras_files import load_model
from tests.conftest import write_blobs
from tests.evaluation.runs import break_weights, finetuned, write_masses

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def folder(tmp_path):
    """Six images of each class, with masses for one class, and a test split of five."""
    for name, count, seed in (("lenses", 6, 0), ("lenses_test", 5, 1)):
        folder = write_blobs(tmp_path / name, count, seed)
        write_masses(folder, "axion", count, seed)
    return tmp_path / "lenses"


def configured(folder, head):
    overrides = [f"finetune.head={head}", "data.image_size=16", f"data.cache={folder.parent}/cache"]
    return load_config("finetune", overrides, str(folder))


@pytest.mark.parametrize(("head", "count"), [("classification", 15), ("regression", 5)])
@pytest.mark.parametrize("batch_size", [4, 5, 256])
def test_each_image_is_scored_once_in_batches_of_any_size(
    folder, head, count, batch_size, monkeypatch
):
    monkeypatch.setattr("deeplens_tf.probes.outputs.BATCH_SIZE", batch_size)
    config = configured(folder, head)
    run = finetuned(folder.parent / "run", config)
    report, metrics = evaluate_run(run, config)
    predictions = pd.read_csv(report / "predictions.csv")
    assert len(predictions) == predictions["file"].nunique() == metrics["n_test"] == count
    model = load_model(run.model)
    images = [np.load(folder.with_name("lenses_test") / file) for file in predictions["file"]]
    scaled = [(image - image.min()) / (image.max() - image.min()) for image in images]
    outputs = model.predict(np.stack(scaled)[..., None], verbose=0)
    column = "p_cdm" if head == "classification" else "predicted"
    expected = outputs[:, 1] if head == "classification" else outputs[:, 0]
    np.testing.assert_allclose(predictions[column], expected, rtol=1e-4)


def test_a_report_names_its_data(folder, tmp_path):
    config = configured(folder, "classification")
    run = finetuned(tmp_path / "run", config)
    report, _ = evaluate_run(run, config)
    own = json.loads((report / "metrics.json").read_text())
    fingerprint = open_data(config).manifest.fingerprint
    assert own["data"] == {"path": str(folder), "fingerprint": fingerprint, "own": True}
    other = write_blobs(tmp_path / "other", 6, seed=5)
    write_blobs(tmp_path / "other_test", 5, seed=6)
    again, _ = evaluate_run(run, configured(other, "classification"))
    theirs = json.loads((again / "metrics.json").read_text())
    assert (theirs["data"]["path"], theirs["data"]["own"]) == (str(other), False)
    assert theirs["data"]["fingerprint"] != fingerprint
    assert theirs["test_set"] != own["test_set"]


def test_images_unlike_the_training_images_are_flagged_and_counted(folder, tmp_path, capsys):
    config = configured(folder, "classification")
    run = finetuned(tmp_path / "run", config)
    file = folder.with_name("lenses_test") / "cdm" / "cdm_sim_002.npy"
    image = np.load(file)
    image[:4] = -3  # a border without data, which moves the rest of the image to one end
    np.save(file, image)
    report, metrics = evaluate_run(run, config)
    predictions = pd.read_csv(report / "predictions.csv", index_col="file")
    flags = predictions["unlike_training"]
    assert flags["cdm/cdm_sim_002.npy"]
    assert metrics["n_unlike_training"] == flags.sum() < 8
    line = f"{flags.sum()} of 15 images are unlike the training images"
    assert line in capsys.readouterr().out
    found = pd.read_csv(
        predict(run.folder, folder.with_name("lenses_test")).table, index_col="file"
    )
    pd.testing.assert_series_equal(found["unlike_training"], flags.sort_index())


@pytest.mark.parametrize("head", ["classification", "regression"])
def test_a_diverged_model_is_refused_and_its_file_named(folder, tmp_path, head):
    config = configured(folder, head)
    run = finetuned(tmp_path / "run", config)
    break_weights(run)
    expected = r"run/model\.keras: the outputs for \d+ of \d+ images are not finite.*learning_rate"
    with pytest.raises(RequestError, match=expected):
        evaluate_run(run, config)
    assert not (run.folder / "evaluation").exists()
