"""Probes during training: the heads that the labels allow, and the scores."""

import keras
import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.batches import image_batches
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.probes.sklearn_probes import probe_classification, probe_regression
from deeplens_tf.probes.validation_probes import build_validation_probes
from tests.conftest import write_blobs
from tests.evaluation.runs import write_masses
from tests.models.tiny import tiny_vit

ALL = ["logistic_macro_auc", "knn_macro_auc", "ridge_r2", "knn_r2"]


@pytest.fixture
def lenses(tmp_path):
    folder = write_blobs(tmp_path / "lenses", 12, seed=0)
    write_masses(folder, "axion", 12)
    return folder


def probes_of(folder, *overrides):
    overrides = ["data.image_size=16", f"data.cache={folder}-cache", *overrides]
    config = load_config("contrastive", ["data.validation_fraction=0.25", *overrides], str(folder))
    return build_validation_probes(open_data(config), config)


def test_classes_and_masses_are_probed_if_there_are_any(lenses):
    assert probes_of(lenses).names == ALL
    (lenses / "axion" / "masses.csv").unlink()
    assert probes_of(lenses).names == ALL[:2]


def test_images_without_labels_or_without_validation_have_no_probes(lenses, tmp_path):
    assert probes_of(lenses, "data.validation_fraction=0").names == []
    images = tmp_path / "mine"
    images.mkdir()
    for path in lenses.glob("*/*.npy"):
        np.save(images / path.name, np.load(path))
    assert probes_of(images).names == []


def test_scores_equal_those_of_probes_of_the_same_features(lenses):
    probes = probes_of(lenses)
    data = probes.data
    keras.utils.set_random_seed(0)
    encoder = tiny_vit(image_shape=data.image_shape)
    features = [
        encoder.predict(image_batches(data, split, 256), verbose=0)
        for split in ("train", "validation")
    ]
    (train, validation), scores = (
        (data.index(split) for split in ("train", "validation")),
        probes.scores(encoder),
    )
    for kind in ("logistic", "knn"):
        labels = [index["label"].to_numpy() for index in (train, validation)]
        fitted = (features[0], labels[0], features[1], labels[1])
        expected = probe_classification(*fitted, data.classes, kind).metrics["macro_auc"]
        assert scores[f"{kind}_macro_auc"] == expected
    for kind in ("ridge", "knn"):
        known = [index["mass_ev"].notna().to_numpy() for index in (train, validation)]
        masses = [
            np.log10(i["mass_ev"][k]) for i, k in zip((train, validation), known, strict=True)
        ]
        fitted = (features[0][known[0]], masses[0], features[1][known[1]], masses[1])
        assert scores[f"{kind}_r2"] == probe_regression(*fitted, kind).metrics["r2"]


def test_features_that_are_not_finite_have_no_score(lenses):
    probes = probes_of(lenses)
    encoder = tiny_vit(image_shape=probes.data.image_shape)
    variable = encoder.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan))
    scores = probes.scores(encoder)
    assert list(scores) == ALL
    assert np.isnan(list(scores.values())).all()
