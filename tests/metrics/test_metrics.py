"""Metrics against scikit-learn and against loops that follow the definitions."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from deeplens_tf.metrics.calibration import (
    calibration_error,
    calibration_interval,
    reliability_curve,
)
from deeplens_tf.metrics.classification import (
    classification_intervals,
    classification_metrics,
    confusion_matrix,
)
from deeplens_tf.metrics.regression import regression_intervals, regression_metrics
from deeplens_tf.metrics.thresholds import THRESHOLDS

NAMES = ["axion", "cdm", "no_sub"]


def simulated(n=400, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=n)
    logits = generator.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.0
    exponentials = np.exp(logits)
    return labels, exponentials / exponentials.sum(axis=1, keepdims=True)


def tied(n=60, seed=1):
    """Probabilities in steps of a quarter, so that most pairs tie."""
    generator = np.random.default_rng(seed)
    return generator.integers(3, size=n), generator.multinomial(4, [0.4, 0.3, 0.3], size=n) / 4


def area_by_pairs(is_positive, scores):
    positives, negatives = scores[is_positive], scores[~is_positive]
    wins = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high, low in itertools.product(positives, negatives)
    ]
    return sum(wins) / len(wins)


def calibration_error_by_loops(labels, probabilities, bins=15):
    total = 0.0
    for k in range(bins):
        confidences, hits = [], []
        for label, row in zip(labels, probabilities, strict=True):
            if k / bins < max(row) <= (k + 1) / bins:
                confidences.append(max(row))
                hits.append(int(np.argmax(row)) == label)
        if hits:
            gap = abs(sum(hits) / len(hits) - sum(confidences) / len(hits))
            total += len(hits) / len(labels) * gap
    return total


def test_areas_and_accuracy_agree_with_scikit_learn():
    labels, probabilities = simulated()
    ours = classification_metrics(labels, probabilities, NAMES)
    theirs = sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average=None)
    assert list(ours["per_class_auc"].values()) == pytest.approx(theirs, abs=1e-12)
    assert ours["macro_auc"] == pytest.approx(theirs.mean(), abs=1e-12)
    predicted = probabilities.argmax(axis=1)
    assert ours["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert ours["n_test"] == 400


def test_areas_count_tied_pairs_by_half():
    labels, probabilities = tied()
    ours = classification_metrics(labels, probabilities, NAMES)["per_class_auc"]
    for k, name in enumerate(NAMES):
        assert ours[name] == pytest.approx(area_by_pairs(labels == k, probabilities[:, k]))


def test_constant_predictions_have_an_area_of_one_half():
    labels = np.array([0, 1, 2, 0, 1, 2])
    ours = classification_metrics(labels, np.full((6, 3), 1 / 3), NAMES)
    assert ours["per_class_auc"] == dict.fromkeys(NAMES, 0.5)


def test_confusion_matrix_and_report_agree_with_scikit_learn():
    labels, probabilities = simulated()
    ours = classification_metrics(labels, probabilities, NAMES)
    predicted = probabilities.argmax(axis=1)
    theirs = sklearn_metrics.confusion_matrix(labels, predicted)
    assert ours["confusion_matrix"] == theirs.tolist()
    assert ours["counts"] == dict(zip(NAMES, theirs.sum(axis=1).tolist(), strict=True))
    report = sklearn_metrics.classification_report(
        labels, predicted, target_names=NAMES, output_dict=True
    )
    for name in NAMES:
        expected = {key.replace("f1-score", "f1"): value for key, value in report[name].items()}
        assert ours["classification_report"][name] == pytest.approx(expected)


@pytest.mark.parametrize("draw", [simulated, tied])
def test_balanced_accuracy_and_average_precision_agree_with_scikit_learn(draw):
    labels, probabilities = draw()
    ours = classification_metrics(labels, probabilities, NAMES)
    predicted = probabilities.argmax(axis=1)
    theirs = sklearn_metrics.balanced_accuracy_score(labels, predicted)
    assert ours["balanced_accuracy"] == pytest.approx(theirs)
    precisions = [
        sklearn_metrics.average_precision_score(labels == k, probabilities[:, k]) for k in range(3)
    ]
    assert list(ours["average_precision"].values()) == pytest.approx(precisions, abs=1e-12)
    assert ours["macro_average_precision"] == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("draw", [simulated, tied])
def test_purity_and_completeness_agree_with_scikit_learn_and_scipy(draw):
    labels, probabilities = draw()  # many of the tied ones are equal to a threshold
    ours = classification_metrics(labels, probabilities, NAMES)["thresholds"]
    for k, name in enumerate(NAMES):
        assert [row["threshold"] for row in ours[name]] == list(THRESHOLDS)
        for row in ours[name]:
            is_selected = probabilities[:, k] >= row["threshold"]
            pair = (labels == k, is_selected)
            assert row["selected"] == is_selected.sum()
            assert row["completeness"] == pytest.approx(sklearn_metrics.recall_score(*pair))
            if row["selected"]:
                assert row["purity"] == pytest.approx(sklearn_metrics.precision_score(*pair))
                hits = int((pair[0] & pair[1]).sum())
                theirs = stats.binomtest(hits, row["selected"]).proportion_ci(method="wilson")
                assert row["purity_95"] == pytest.approx(list(theirs))


def test_a_selection_without_images_has_no_purity_and_an_absent_class_no_completeness():
    ours = classification_metrics([0, 0], [[0.6, 0.4], [0.7, 0.3]], ["a", "b"])["thresholds"]
    (surest,) = (row for row in ours["a"] if row["threshold"] == 0.9)
    assert (surest["selected"], surest["purity"], surest["purity_95"]) == (0, None, None)
    assert surest["completeness"] == 0.0
    assert {row["completeness"] for row in ours["b"]} == {None}


def test_a_rare_class_that_is_never_predicted_shows_in_the_balanced_accuracy():
    labels = np.r_[np.zeros(12, int), np.ones(588, int)]
    ours = classification_metrics(labels, np.tile([0.1, 0.9], (600, 1)), ["lens", "other"])
    assert ours["accuracy"] == 0.98
    assert ours["balanced_accuracy"] == 0.5
    assert ours["average_precision"]["lens"] == pytest.approx(0.02)  # the share of lenses


def test_rows_of_the_confusion_matrix_are_true_classes():
    assert confusion_matrix(np.array([0, 0]), np.array([1, 1]), 2).tolist() == [[0, 2], [0, 0]]


@pytest.mark.parametrize("draw", [simulated, tied])
def test_calibration_error_agrees_with_loops(draw):
    labels, probabilities = draw()
    ours = classification_metrics(labels, probabilities, NAMES)["expected_calibration_error"]
    assert ours == pytest.approx(calibration_error_by_loops(labels, probabilities))
    assert ours > 0.01  # two zeros would agree trivially


def test_reliability_bins_hold_every_image_once_and_are_closed_above():
    probabilities = np.array([[0.75, 0.25], [0.76, 0.24], [1.0, 0.0], [0.5, 0.5]])
    labels = np.array([0, 1, 0, 0])
    curve = reliability_curve(labels, probabilities, bins=4)
    assert curve["count"] == [0, 1, 1, 2]
    assert curve["accuracy"] == [None, 1.0, 1.0, 0.5]
    assert curve["confidence"] == [None, 0.5, 0.75, 0.88]
    error = calibration_error(labels, probabilities, bins=4)
    assert error == pytest.approx((0.5 + 0.25 + 2 * 0.38) / 4)


def test_an_absent_class_has_no_area_and_the_classes_of_the_mean_are_listed():
    labels, probabilities = simulated()
    keep = labels != 1
    ours = classification_metrics(labels[keep], probabilities[keep], NAMES)
    assert ours["per_class_auc"]["cdm"] is None
    assert ours["macro_auc_over"] == ["axion", "no_sub"]
    areas = ours["per_class_auc"]
    assert ours["macro_auc"] == pytest.approx((areas["axion"] + areas["no_sub"]) / 2)
    assert ours["counts"]["cdm"] == 0
    assert ours["classification_report"]["cdm"]["recall"] is None
    assert ours["average_precision"]["cdm"] is None
    assert ours["macro_average_precision_over"] == ["axion", "no_sub"]
    assert ours["balanced_accuracy_over"] == ["axion", "no_sub"]
    recalls = [ours["classification_report"][name]["recall"] for name in ("axion", "no_sub")]
    assert ours["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_a_single_class_has_no_mean_area():
    ours = classification_metrics([1, 1], [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], NAMES)
    assert ours["macro_auc"] is None
    assert ours["macro_auc_over"] == []
    assert ours["macro_average_precision"] is None
    assert ours["accuracy"] == 0.5
    assert ours["balanced_accuracy"] == 0.5
    assert ours["balanced_accuracy_over"] == ["cdm"]


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2], [1]])
def test_metrics_are_valid_json_for_any_set_of_present_classes(kept):
    labels, probabilities = simulated()
    keep = np.isin(labels, kept)
    ours = classification_metrics(labels[keep], probabilities[keep], NAMES)
    ours["intervals_95"] = classification_intervals(
        labels[keep], probabilities[keep], NAMES, seed=0, resamples=50
    )
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "shape"),
        ([], np.zeros((0, 2)), "shape"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "from 0 to 1"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], "from 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "integers"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "1 of 2 rows with NaN .* index 1"),
        ([0, 1], [[3.0, -2.0], [0.5, 0.5]], "softmax"),
        ([0, 1], [[3.0, 2.0], [0.5, 0.5]], "softmax"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(labels, probabilities, ["a", "b"])


def test_regression_metrics_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    true = generator.uniform(-24, -22, 300)
    predicted = true + generator.normal(0, 0.3, 300)
    ours = regression_metrics(true, predicted)
    assert ours == pytest.approx(
        {
            "mae_dex": sklearn_metrics.mean_absolute_error(true, predicted),
            "rmse_dex": sklearn_metrics.root_mean_squared_error(true, predicted),
            "r2": sklearn_metrics.r2_score(true, predicted),
            "n_test": 300,
        },
        rel=1e-10,
    )


def test_coverage_is_nominal_for_a_correct_gaussian_and_too_small_for_a_narrow_one():
    generator = np.random.default_rng(0)
    n = 40_000
    std = generator.uniform(0.1, 0.5, n)
    predicted = generator.uniform(-24, -22, n)
    true = generator.normal(predicted, std)
    right, narrow = (regression_metrics(true, predicted, s) for s in (std, std / 2))
    assert right["coverage_68"] == pytest.approx(0.68, abs=4 * np.sqrt(0.68 * 0.32 / n))
    assert right["coverage_95"] == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / n))
    assert narrow["coverage_68"] < 0.4
    assert narrow["coverage_95"] < 0.7


@pytest.mark.parametrize("true", [[-23.0], [-23.1] * 7])
def test_r2_of_constant_truths_is_undefined(true):
    ours = regression_metrics(true, np.linspace(-23, -22, len(true)), np.ones(len(true)))
    assert ours["r2"] is None
    json.dumps(ours, allow_nan=False)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1.0, 2.0], [1.0]), "one shape"),
        (([[1.0], [2.0]], [[1.0], [2.0]]), "one shape"),
        (([], []), "one shape"),
        (([1.0, 2.0], [1.0, np.inf]), "finite"),
        (([1.0, 2.0], [1.0, 2.0], [0.1, -0.1]), "negative"),
    ],
)
def test_values_that_cannot_be_scored_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(*arrays)


def test_every_classification_metric_has_an_interval_around_it():
    labels, probabilities = simulated(n=1000)
    metrics = classification_metrics(labels, probabilities, NAMES)
    intervals = classification_intervals(labels, probabilities, NAMES, seed=0, resamples=300)
    names = ("macro_auc", "accuracy", "balanced_accuracy", "macro_average_precision")
    flat = {name: metrics[name] for name in (*names, "expected_calibration_error")}
    for score in ("per_class_auc", "average_precision"):
        flat |= {f"{score}.{name}": value for name, value in metrics[score].items()}
    flat |= {
        f"classification_report.{name}.{column}": row[column]
        for name, row in metrics["classification_report"].items()
        for column in ("precision", "recall", "f1")
    }
    assert intervals.keys() == flat.keys()
    for name, (low, high) in intervals.items():
        assert low < flat[name] < high, name


def perfect(images, classes=3, confidence=0.9):
    """Predictions that are all right."""
    labels = np.arange(images) % classes
    probabilities = np.full((images, classes), (1 - confidence) / (classes - 1))
    probabilities[np.arange(images), labels] = confidence
    return labels, probabilities, NAMES[:classes]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("images", [6, 60, 600])
def test_a_perfect_result_has_intervals_with_a_width_inside_their_bounds(images, classes):
    test_set = perfect(images, classes)
    metrics, intervals = classification_metrics(*test_set), classification_intervals(*test_set, 0)
    assert metrics["macro_auc"] == metrics["accuracy"] == 1.0
    for name, (low, high) in intervals.items():
        assert 0.0 <= low < high <= 1.0, name
    exact = stats.binomtest(images, images).proportion_ci(method="exact").low
    assert intervals["accuracy"][0] == pytest.approx(exact, abs=0.1 if images == 6 else 0.01)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_intervals_of_very_few_images_are_wide_or_undefined(images):
    intervals = classification_intervals(*perfect(images), seed=0)
    assert intervals["accuracy"][0] < 0.5
    for name, interval in intervals.items():
        assert interval is None or 0.0 <= interval[0] < interval[1] <= 1.0, name


def test_the_areas_of_two_classes_are_one_and_have_one_interval():
    generator = np.random.default_rng(0)
    labels, chance = generator.integers(2, size=80), generator.integers(64, size=80) / 64
    probabilities = np.stack([chance, 1 - chance], axis=1)
    intervals = classification_intervals(labels, probabilities, ["lens", "other"], seed=0)
    first = intervals["per_class_auc.lens"]
    assert intervals["per_class_auc.other"] == pytest.approx(first)
    assert intervals["macro_auc"] == pytest.approx(first)


def test_the_mean_area_of_many_images_has_the_interval_of_the_bootstrap():
    labels, probabilities = simulated(n=2000)
    low, high = classification_intervals(labels, probabilities, NAMES, seed=0)["macro_auc"]
    generator, areas = np.random.default_rng(0), []
    for _ in range(400):
        rows = generator.integers(2000, size=2000)
        areas.append(
            sklearn_metrics.roc_auc_score(labels[rows], probabilities[rows], multi_class="ovr")
        )
    assert high - low == pytest.approx(np.ptp(np.percentile(areas, [2.5, 97.5])), rel=0.2)


@pytest.mark.parametrize("confidence", [0.85, 0.99, 1.0])
def test_the_calibration_error_of_sixty_right_predictions_is_uncertain(confidence):
    """With an accuracy of .94, which 60 of 60 leave possible, it would be |confidence - .94|."""
    labels, probabilities, _ = perfect(60, 2, confidence)
    low, high = calibration_interval(labels, probabilities, seed=0)
    assert 0.0 <= low <= abs(confidence - 0.94) + 0.001 <= high + 0.001
    assert low <= 1 - confidence <= high <= 1.0


def test_the_interval_of_a_large_calibration_error_stays_below_one():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.full(2, 0.3), size=6)
    labels = 1 - probabilities.argmax(axis=1)  # all wrong
    low, high = calibration_interval(labels, probabilities, seed=0)
    error = calibration_error(labels, probabilities)
    assert 0 < low < error < high <= 1.0


def sharpened_predictions(generator, n, sharpening):
    """Predictions that are perfectly calibrated before the sharpening."""
    logits = 2 * generator.normal(size=(n, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    powers = chances**sharpening
    return labels, powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("sharpening", [1.0, 1.5, 3.0])
def test_the_interval_of_the_calibration_error_contains_the_error_of_very_many_images(sharpening):
    generator = np.random.default_rng(0)
    very_many = sharpened_predictions(generator, 500_000, sharpening)
    true = classification_metrics(*very_many, NAMES)["expected_calibration_error"]
    intervals = [
        calibration_interval(*sharpened_predictions(generator, 1000, sharpening), seed, 200)
        for seed in range(150)
    ]
    contained = np.mean([low <= true <= high for low, high in intervals])
    assert contained >= 0.88  # 0.95, less the noise of 150 draws and the error from binning
    assert np.mean([high - low for low, high in intervals]) < 0.07


def test_every_regression_metric_has_an_interval_around_it():
    generator = np.random.default_rng(3)
    true = generator.uniform(-24, -22, 500)
    predicted = generator.normal(true, 0.3)
    metrics = regression_metrics(true, predicted, np.full(500, 0.3))
    intervals = regression_intervals(true, predicted, np.full(500, 0.3), seed=0, resamples=300)
    assert intervals.keys() == metrics.keys() - {"n_test"}
    for name, (low, high) in intervals.items():
        assert low < metrics[name] < high


def test_the_coverage_of_all_truths_leaves_room_for_others():
    true = np.linspace(-24, -22, 30)
    intervals = regression_intervals(true, true + 0.1, np.full(30, 0.3), seed=0)
    theirs = stats.binomtest(30, 30).proportion_ci(method="wilson")
    assert intervals["coverage_68"] == pytest.approx(list(theirs))


@pytest.mark.parametrize(("images", "defined"), [(1, []), (2, ["mae_dex", "rmse_dex"])])
def test_errors_of_very_few_images_have_no_interval_of_zero_width(images, defined):
    true = np.array([-23.0, -22.0])[:images]
    intervals = regression_intervals(true, true + np.array([0.1, 0.4])[:images], seed=0)
    assert [name for name, interval in intervals.items() if interval] == defined
    for name in defined:
        assert 0 < intervals[name][0] < intervals[name][1]
