"""Probes: simple scikit-learn models that measure what frozen features contain.

Features are standardised by the mean and standard deviation of the training split, so that the
test split does not influence a probe and the scale of a feature does not matter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from deeplens_tf.metrics.classification import (
    CLASSIFIER_INTERVAL_METHODS,
    Metrics,
    classification_intervals,
    classification_metrics,
)
from deeplens_tf.metrics.regression import (
    REGRESSOR_INTERVAL_METHODS,
    regression_intervals,
    regression_metrics,
)
from deeplens_tf.metrics.weighted import FloatArray

NEIGHBOURS = 20
INVERSE_PENALTY = 1.0
RIDGE_PENALTIES = np.logspace(-3, 4, 15)
MAX_LOGISTIC_STEPS = 5000


class Probed(NamedTuple):
    """Scores of a probe on the test split, and what it predicts there."""

    metrics: Metrics
    outputs: FloatArray


def probe_classification(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    class_names: Sequence[str],
    kind: str = "logistic",
    seed: int = 0,
    resamples: int = 1000,
) -> Probed:
    """Fit a classifier to frozen features and score it on the test split.

    Args:
        train_features: shape (train, dim).
        train_labels: shape (train,), class indices.
        test_features: shape (test, dim).
        test_labels: shape (test,).
        class_names: of all classes; a class without training labels gets probability 0.
        kind: `logistic` (L2 penalty, C = 1) or `knn` (the 20 nearest by Euclidean distance).
        seed: of the bootstrap; fitting the probes involves no random numbers.
        resamples: of the bootstrap.

    Returns:
        `classification_metrics`, with `intervals_95`, `interval_methods`, `probe` and `n_train`;
        and the probabilities, shape (test, classes).

    Raises:
        ValueError: an unknown kind, shapes that do not match, features that are not finite, or
            fewer than two classes among the training labels.
    """
    train, test = _checked_features(train_features, test_features)
    labels = _checked_targets(train_labels, len(train), "train_labels").astype(np.int64)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"train_labels must contain two classes. Received: {np.unique(labels)}")
    probe = _pipeline(kind, _classifiers(len(train))).fit(train, labels)
    found = probe.classes_
    if found.min() < 0 or found.max() >= len(class_names):
        raise ValueError(
            f"train_labels must be from 0 to {len(class_names) - 1}. Received: {found.tolist()}"
        )
    probabilities = np.zeros((len(test), len(class_names)))
    probabilities[:, found] = probe.predict_proba(test)
    scored = (test_labels, probabilities, class_names)
    metrics = {
        **classification_metrics(*scored),
        "intervals_95": classification_intervals(*scored, seed, resamples),
        "interval_methods": CLASSIFIER_INTERVAL_METHODS,
        "probe": kind,
        "n_train": len(train),
    }
    return Probed(metrics, probabilities)


def probe_regression(
    train_features: ArrayLike,
    train_log10: ArrayLike,
    test_features: ArrayLike,
    test_log10: ArrayLike,
    kind: str = "ridge",
    seed: int = 0,
    resamples: int = 1000,
) -> Probed:
    """Fit a regressor to frozen features and score it on the test split.

    Args:
        train_features: shape (train, dim).
        train_log10: shape (train,), log10 of the quantity (a mass in eV).
        test_features: shape (test, dim).
        test_log10: shape (test,).
        kind: `ridge` (penalty chosen by leave-one-out on the training split) or `knn` (mean of
            the 20 nearest by Euclidean distance).
        seed: of the bootstrap; fitting the probes involves no random numbers.
        resamples: of the bootstrap.

    Returns:
        `regression_metrics`, with `intervals_95`, `interval_methods`, `probe` and `n_train`; and
        the predictions, shape (test,).

    Raises:
        ValueError: an unknown kind, shapes that do not match, or values that are not finite.
    """
    train, test = _checked_features(train_features, test_features)
    targets = _checked_targets(train_log10, len(train), "train_log10").astype(np.float64)
    predicted = _pipeline(kind, _regressors(len(train))).fit(train, targets).predict(test)
    metrics = {
        **regression_metrics(test_log10, predicted),
        "intervals_95": regression_intervals(test_log10, predicted, seed=seed, resamples=resamples),
        "interval_methods": REGRESSOR_INTERVAL_METHODS,
        "probe": kind,
        "n_train": len(train),
    }
    return Probed(metrics, predicted)


def _classifiers(images: int) -> dict[str, BaseEstimator]:
    return {
        "logistic": LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_LOGISTIC_STEPS),
        "knn": KNeighborsClassifier(min(NEIGHBOURS, images)),
    }


def _regressors(images: int) -> dict[str, BaseEstimator]:
    return {
        "ridge": RidgeCV(RIDGE_PENALTIES),
        "knn": KNeighborsRegressor(min(NEIGHBOURS, images)),
    }


def _pipeline(kind: str, probes: dict[str, BaseEstimator]) -> Pipeline:
    if kind not in probes:
        raise ValueError(f"kind must be one of {', '.join(probes)}. Received: kind={kind!r}")
    return make_pipeline(StandardScaler(), probes[kind])


def _checked_features(train: ArrayLike, test: ArrayLike) -> tuple[FloatArray, FloatArray]:
    train, test = np.asarray(train, np.float64), np.asarray(test, np.float64)
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not len(train):
        raise ValueError(
            "features must have shapes (train, dim) and (test, dim) with train >= 1. "
            f"Received: {train.shape} and {test.shape}"
        )
    for name, features in (("train_features", train), ("test_features", test)):
        if not np.isfinite(features).all():
            raise ValueError(f"{name} must be finite. Received: NaN or infinity")
    return train, test


def _checked_targets(targets: ArrayLike, images: int, name: str) -> NDArray:
    targets = np.asarray(targets)
    if targets.shape != (images,):
        raise ValueError(f"{name} must have shape ({images},). Received: shape={targets.shape}")
    return targets
