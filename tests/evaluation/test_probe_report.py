"""The report on a probe: its labels, its features, and the control."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.label_selection import label_subset
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.models import build_encoder
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.probes.frozen_features import untrained_encoder
from deeplens_tf.probes.sklearn_probes import probe_classification
from tests.evaluation.runs import break_weights, finetuned
from tests.models.tiny import SIZES

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def configured(blobs_words, monkeypatch):
    monkeypatch.setitem(VARIANTS, "vit_nano", SIZES)
    return lambda *overrides: load_config("finetune", [*blobs_words, *overrides])


def features(encoder, data, split):
    return encoder.predict(image_batches(data, split, 64), verbose=0)


@pytest.mark.parametrize(
    ("fraction", "labels", "kind"), [(1.0, 45, "knn"), (1.0, 45, "linear"), (0.4, 18, "linear")]
)
def test_encoder_and_control_are_probed_with_the_labels_of_a_fine_tuning(
    configured, tmp_path, fraction, labels, kind
):
    config = configured(f"finetune.fraction={fraction}", "seed=3")
    run = finetuned(tmp_path / "run", config)
    folder, metrics = evaluate_probe(run, config, "classification", kind)
    data = open_data(config)
    index = {split: data.index(split) for split in ("train", "test")}
    keep = label_subset(index["train"], fraction, seed=3)
    encoder = keras.saving.load_model(run.model).encoder
    keras.utils.set_random_seed(3)
    control = build_encoder("vit_nano", data.image_shape)
    predictions = pd.read_csv(folder / "predictions.csv")
    assert predictions["file"].tolist() == index["test"]["file"].tolist()
    named = {"": (encoder, metrics), "control_": (control, metrics["control"])}
    for prefix, (network, found) in named.items():
        expected, probabilities = probe_classification(
            features(network, data, "train")[keep],
            index["train"]["label"].to_numpy()[keep],
            features(network, data, "test"),
            index["test"]["label"].to_numpy(),
            data.classes,
            {"linear": "logistic"}.get(kind, kind),
            seed=3,
        )
        for key in ("macro_auc", "accuracy", "expected_calibration_error", "n_train", "n_test"):
            assert found[key] == pytest.approx(expected[key], abs=1e-4)
        columns = [f"{prefix}p_{name}" for name in data.classes]
        np.testing.assert_allclose(predictions[columns], probabilities, atol=1e-4)
    # Otherwise the comparison would hold for any network.
    assert metrics["reliability"] != metrics["control"]["reliability"]
    few = "" if fraction == 1 else "-0.4"
    assert folder.name == f"test-probe-classification-{kind}{few}"
    written = json.loads((folder / "metrics.json").read_text())
    assert (written["labels_used"], written["fraction"]) == (labels, fraction)
    assert written["control"]["n_train"] == labels
    assert written["data"]["path"] == config.data.path


def test_the_control_has_the_precision_of_the_run_and_does_not_change_the_default(configured):
    config = configured("train.precision=mixed_bfloat16")
    control = untrained_encoder(config, open_data(config).image_shape)
    assert control.dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_features_that_are_not_finite_are_refused_and_the_file_named(configured, tmp_path):
    config = configured()
    run = finetuned(tmp_path / "run", config)
    break_weights(run)
    with pytest.raises(RequestError, match=r"run/model\.keras: the outputs .* are not finite"):
        evaluate_probe(run, config, "classification", "linear")


def test_a_probe_of_masses_needs_masses(configured, tmp_path):
    config = configured()
    run = finetuned(tmp_path / "run", config)
    with pytest.raises(RequestError, match="needs images with a mass in the train split, and only"):
        evaluate_probe(run, config, "regression", "linear")
