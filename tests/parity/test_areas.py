"""Accuracy, and the area under the ROC curve: exact here, of 200 thresholds in the original."""

import keras
import numpy as np
import pytest

from deeplens_tf.metrics.classification import classification_metrics
from parity.exchange import below
from tests.parity.ours import CLASSES, classification_task

CASES = ("0", "1", "2", "3")


@pytest.fixture
def areas(reference):
    return [below(reference("areas"), case) for case in CASES]


def test_ours_is_exact(areas, differences):
    ours = [macro(case) for case in areas]
    exact = [case["exact_macro"] for case in areas]
    differences.hold("macro AUC", "evaluation, scikit-learn's", ours, exact, 1e-12)


def test_the_metrics_of_training_are_keras_2s(areas, differences):
    ours = [while_training(case) for case in areas]
    theirs = [case["keras_macro"] for case in areas]
    kind = "during fine-tuning, Keras 2's per class"
    differences.hold("macro AUC", kind, [logs["auc"] for logs in ours], theirs, 1e-6)
    theirs = [case["accuracy"] for case in areas]
    kind = "during fine-tuning, Keras 2's"
    differences.hold("accuracy", kind, [logs["accuracy"] for logs in ours], theirs, 1e-6)


def test_how_far_keras_2s_area_is_from_the_exact_one(areas, differences):
    names = ("hesitant", "plain", "confident", "certain")
    for name, case in zip(names, areas, strict=True):
        gap = abs(float(case["keras_micro"] - macro(case)))
        differences.note("macro AUC", f"the original's AUC(), {name} probabilities", 15_000, gap)
        interpolation = abs(float(case["keras_macro"] - case["exact_macro"]))
        differences.note("macro AUC", f"its 200 thresholds alone, {name}", 15_000, interpolation)
    assert abs(areas[1]["keras_macro"] - areas[1]["exact_macro"]) < 1e-3
    assert areas[3]["exact_macro"] - areas[3]["keras_macro"] > 1e-2


def macro(case):
    probabilities = np.float64(case["probabilities"])
    return classification_metrics(case["labels"], probabilities, CLASSES)["macro_auc"]


def while_training(case):
    """Return what fine-tuning logs when its network gives these probabilities."""
    task = classification_task()
    model = keras.Sequential([keras.Input((len(CLASSES),)), keras.layers.Identity()])
    model.compile(loss=task.loss, metrics=task.metrics)
    one_hot = task.target("train")({"label": case["labels"]})
    return model.evaluate(case["probabilities"], one_hot, 1000, verbose=0, return_dict=True)
