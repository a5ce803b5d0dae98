"""Scoring a run's model: every image once, in whatever batches, and what cannot be scored."""

import json

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.batches import open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.model_report import evaluate
from deeplens_tf.saving.keras_files import load_downstream
from tests.conftest import write_blobs
from tests.evaluation.runs import break_weights, finetuned, write_masses


@pytest.fixture
def folder(tmp_path):
    """Images of two classes with masses for one, and as many, fewer of each, to test on."""
    for name, count, seed in (("lenses", 6, 0), ("lenses_test", 5, 1)):
        folder = write_blobs(tmp_path / name, count, seed)
        write_masses(folder, "axion", count, seed)
    return tmp_path / "lenses"


def configured(folder, head):
    words = [f"finetune.head={head}", "data.image_size=16", f"data.cache={folder.parent}/cache"]
    return load_config("finetune", words, str(folder))


@pytest.mark.parametrize(("head", "images"), [("classification", 15), ("regression", 5)])
@pytest.mark.parametrize("batch_size", [4, 5, 256])
def test_each_image_is_scored_once_in_batches_of_any_size(
    folder, head, images, batch_size, monkeypatch
):
    monkeypatch.setattr("deeplens_tf.probes.outputs.BATCH_SIZE", batch_size)
    config = configured(folder, head)
    run = finetuned(folder.parent / "run", config)
    report, metrics = evaluate(run, config)
    predictions = pd.read_csv(report / "predictions.csv")
    assert len(predictions) == predictions["file"].nunique() == metrics["n_test"] == images
    model = load_downstream(run.model)
    scale = [np.load(folder.with_name("lenses_test") / file) for file in predictions["file"]]
    scale = [(image - image.min()) / (image.max() - image.min()) for image in scale]
    outputs = model.predict(np.stack(scale)[..., None], verbose=0)
    column = "p_cdm" if head == "classification" else "predicted"
    expected = outputs[:, 1] if head == "classification" else outputs[:, 0]
    np.testing.assert_allclose(predictions[column], expected, rtol=1e-4)


def test_a_report_names_the_data_that_it_is_of(folder, tmp_path):
    config = configured(folder, "classification")
    run = finetuned(tmp_path / "run", config)
    report, _ = evaluate(run, config)
    own = json.loads((report / "metrics.json").read_text())
    fingerprint = open_data(config).manifest.fingerprint
    assert own["data"] == {"path": str(folder), "fingerprint": fingerprint}
    other = write_blobs(tmp_path / "other", 6, seed=5)
    write_blobs(tmp_path / "other_test", 5, seed=6)
    again, _ = evaluate(run, configured(other, "classification"))
    assert again == report
    theirs = json.loads((report / "metrics.json").read_text())
    assert theirs["data"]["path"] == str(other)
    assert theirs["data"]["fingerprint"] != fingerprint
    assert theirs["test_set"] != own["test_set"]


@pytest.mark.parametrize("head", ["classification", "regression"])
def test_a_model_that_has_diverged_is_refused_by_its_file(folder, tmp_path, head):
    config = configured(folder, head)
    run = finetuned(tmp_path / "run", config)
    break_weights(run)
    expected = r"run/model\.keras: its outputs for \d+ of \d+ images are not finite.*learning_rate"
    with pytest.raises(RequestError, match=expected):
        evaluate(run, config)
    assert not (run.folder / "evaluation").exists()
