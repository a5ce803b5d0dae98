"""Probes: what they find, and that the test split does not influence them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from deeplens_tf.probes.sklearn_probes import probe_classification, probe_regression

NAMES = ["axion", "cdm", "no_sub"]


def separable(n, seed, shift=1.5):
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=n)
    features = generator.normal(size=(n, 8))
    features[np.arange(n), labels] += shift
    return features, labels


def linear(n, seed):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, 6))
    return features, features @ np.arange(6) * 0.1 - 23 + generator.normal(0, 0.05, n)


def test_the_logistic_probe_agrees_with_scikit_learn_on_features_standardised_by_hand():
    train, train_labels = separable(300, seed=0)
    test, test_labels = separable(300, seed=1)
    train, test = train * 50 + 7, test * 50 + 7
    ours = probe_classification(train, train_labels, test, test_labels, NAMES, resamples=20).metrics
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    model = LogisticRegression(max_iter=5000).fit((train - mean) / deviation, train_labels)
    probabilities = model.predict_proba((test - mean) / deviation)
    expected = roc_auc_score(test_labels, probabilities, multi_class="ovr")
    assert ours["macro_auc"] == pytest.approx(expected, abs=1e-4)
    assert ours["n_train"] == 300


@pytest.mark.parametrize("kind", ["logistic", "knn"])
def test_classifying_probes_find_classes_and_nothing_in_noise(kind):
    train, train_labels = separable(600, seed=0, shift=2.5)
    test, test_labels = separable(600, seed=1, shift=2.5)
    found = probe_classification(
        train, train_labels, test, test_labels, NAMES, kind, resamples=20
    ).metrics
    assert found["macro_auc"] > 0.9
    assert found["probe"] == kind
    noise = np.random.default_rng(5).normal(size=(1200, 8))
    of_noise = probe_classification(
        noise[:600], train_labels, noise[600:], test_labels, NAMES, kind, resamples=20
    ).metrics
    assert of_noise["macro_auc"] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("kind", ["ridge", "knn"])
def test_regressing_probes_find_a_linear_relation(kind):
    found = probe_regression(
        *linear(800, seed=0), *linear(200, seed=1), kind=kind, resamples=20
    ).metrics
    assert found["r2"] > {"ridge": 0.98, "knn": 0.6}[kind]
    assert set(found["interval_methods"]) == {"mae_dex, rmse_dex", "r2", "coverage_68, coverage_95"}
    low, high = found["intervals_95"]["r2"]
    assert low <= found["r2"] <= high


@pytest.mark.parametrize("kind", ["logistic", "knn"])
def test_other_test_images_do_not_change_a_prediction(kind):
    """A scaler fitted to the test split too would be shifted by one extreme image."""
    train, train_labels = separable(200, seed=0)
    test, test_labels = separable(200, seed=1)
    with_outlier = np.concatenate([test, np.full((1, 8), 1e6)])
    without = probe_classification(
        train, train_labels, test, test_labels, NAMES, kind, resamples=5
    ).metrics
    including = probe_classification(
        train, train_labels, with_outlier, np.append(test_labels, 0), NAMES, kind, resamples=5
    ).metrics
    hits = round(without["accuracy"] * 200), round(including["accuracy"] * 201)
    assert hits[1] - hits[0] in (0, 1)


def test_a_class_without_training_labels_gets_probability_zero():
    train, train_labels = separable(300, seed=0)
    test, test_labels = separable(300, seed=1)
    seen = train_labels != 1
    found = probe_classification(
        train[seen], train_labels[seen], test, test_labels, NAMES, resamples=5
    ).metrics
    assert found["per_class_auc"]["cdm"] == 0.5
    assert np.array(found["confusion_matrix"])[:, 1].sum() == 0


def test_a_constant_feature_does_no_harm():
    train, train_labels = separable(100, seed=0)
    test, test_labels = separable(100, seed=1)
    train[:, 7], test[:, 7] = 3.0, 3.0
    found = probe_classification(train, train_labels, test, test_labels, NAMES, resamples=5).metrics
    assert found["macro_auc"] > 0.7


def test_fewer_images_than_neighbours_are_enough():
    train, train_labels = separable(9, seed=0)
    found = probe_classification(
        train, train_labels, train, train_labels, NAMES, "knn", 0, 5
    ).metrics
    assert found["n_test"] == 9


def test_invalid_arguments_are_refused():
    features, labels = separable(20, seed=0)
    with pytest.raises(ValueError, match="logistic, knn"):
        probe_classification(features, labels, features, labels, NAMES, "forest")
    with pytest.raises(ValueError, match="ridge, knn"):
        probe_regression(features, labels, features, labels, "logistic")
    with pytest.raises(ValueError, match="two classes"):
        probe_classification(features, labels * 0, features, labels, NAMES)
    with pytest.raises(ValueError, match="from 0 to 1"):
        probe_classification(features, labels, features, labels, ["a", "b"])
    with pytest.raises(ValueError, match="dim"):
        probe_classification(features, labels, features[:, :3], labels, NAMES)
    with pytest.raises(ValueError, match=r"shape \(20,\)"):
        probe_regression(features, labels[:5], features, labels)
    with pytest.raises(ValueError, match="train_features must be finite"):
        probe_regression(features * np.nan, labels, features, labels)
