"""Accuracy, and the area under the ROC curve by the original's metric and by scikit-learn."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from parity.exchange import Arrays

IMAGES, CLASSES = 15_000, 3  # the original's test set
SIGNAL = np.diag([1.5, 0.5, 2.5])  # classes that are not equally hard to separate
SHARPNESS = (0.5, 2.0, 8.0, 40.0)
"""Scale of the logits: at 40 most probabilities are 0 or 1 to three digits."""


def area_cases(generator: np.random.Generator) -> Arrays:
    """Return labels, probabilities from hesitant to certain, areas and accuracies."""
    arrays: Arrays = {}
    for i, sharpness in enumerate(SHARPNESS):
        labels = generator.integers(0, CLASSES, IMAGES)
        logits = generator.normal(size=(IMAGES, CLASSES)) + SIGNAL[labels]
        probabilities = tf.nn.softmax(sharpness * logits).numpy().astype(np.float32)
        one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
        arrays |= {
            f"{i}/labels": labels,
            f"{i}/probabilities": probabilities,
            f"{i}/accuracy": _accuracy(one_hot, probabilities),
            f"{i}/keras_micro": _area(one_hot, probabilities),
            f"{i}/keras_macro": _area(one_hot, probabilities, multi_label=True, num_labels=CLASSES),
            f"{i}/exact_micro": roc_auc_score(one_hot, probabilities, average="micro"),
            f"{i}/exact_macro": roc_auc_score(one_hot, probabilities, average="macro"),
        }
    return arrays


def _area(one_hot: np.ndarray, probabilities: np.ndarray, **options: object) -> np.ndarray:
    metric = tf.keras.metrics.AUC(**options)
    metric.update_state(one_hot, probabilities)
    return np.asarray(float(metric.result()))


def _accuracy(one_hot: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    metric = tf.keras.metrics.CategoricalAccuracy()
    metric.update_state(one_hot, probabilities)
    return np.asarray(float(metric.result()))
