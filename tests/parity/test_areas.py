"""The area under the ROC curve: exact here, interpolated over 200 thresholds in the original."""

import keras
import numpy as np
import pytest

from deeplens_tf.evaluation.metrics import classification_metrics
from parity.exchange import below

CASES = ("0", "1", "2", "3")


@pytest.fixture
def areas(reference):
    return [below(reference("areas"), case) for case in CASES]


def test_ours_is_exact(areas, differences):
    ours = [macro(case) for case in areas]
    exact = [case["exact_macro"] for case in areas]
    differences.hold("macro AUC", "evaluation, scikit-learn's", ours, exact, 1e-12)


def test_the_metric_of_training_is_keras_2s(areas, differences):
    ours = [keras_3(case) for case in areas]
    theirs = [case["keras_macro"] for case in areas]
    differences.hold("macro AUC", "during fine-tuning, Keras 2's per class", ours, theirs, 1e-6)


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
    metrics = classification_metrics(
        case["labels"], normalised(case["probabilities"]), ("axion", "cdm", "no_sub")
    )
    return metrics["macro_auc"]


def normalised(probabilities):
    return np.float64(probabilities)


def keras_3(case):
    metric = keras.metrics.AUC(multi_label=True, num_labels=3)
    metric.update_state(np.eye(3, dtype="float32")[case["labels"]], case["probabilities"])
    return float(metric.result())
