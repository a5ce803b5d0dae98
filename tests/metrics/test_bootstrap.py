"""Bootstrap intervals against SciPy, against closed forms, and against copied resamples."""

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from deeplens_tf.metrics import bootstrap
from deeplens_tf.metrics.bootstrap import bootstrap_intervals
from deeplens_tf.metrics.calibration import calibration_error, weighted_calibration_error
from deeplens_tf.metrics.classification import classification_intervals
from deeplens_tf.metrics.weighted import weighted_r2


def mean_score(values, weights):
    return {"mean": weights @ values / weights.sum(axis=1)}


def drawn(n, resamples, seed):
    """Resamples as indices, and the same resamples as counts."""
    indices = np.random.default_rng(seed).integers(n, size=(resamples, n))
    return indices, np.stack([np.bincount(row, minlength=n) for row in indices]).astype(float)


def test_the_interval_of_a_mean_agrees_with_scipy_and_with_the_normal_distribution():
    values = np.random.default_rng(0).normal(size=2000)
    low, high = bootstrap_intervals(mean_score, (values,), seed=1, resamples=8000)["mean"]
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=2
    ).confidence_interval
    standard_error = values.std() / np.sqrt(2000)
    expected = values.mean() + 1.96 * standard_error * np.array([-1, 1])
    assert [low, high] == pytest.approx(list(theirs), abs=0.12 * standard_error)
    assert [low, high] == pytest.approx(expected.tolist(), abs=0.12 * standard_error)


def test_the_seed_determines_the_interval_and_chunks_do_not_change_its_width(monkeypatch):
    values = (np.random.default_rng(0).normal(size=300),)
    once = bootstrap_intervals(mean_score, values, seed=1)
    assert bootstrap_intervals(mean_score, values, seed=1) == once
    assert bootstrap_intervals(mean_score, values, seed=2) != once
    monkeypatch.setattr(bootstrap, "VALUES_AT_ONCE", 100)  # fewer than one resample
    in_chunks = bootstrap_intervals(mean_score, values, seed=1)
    assert in_chunks["mean"] == pytest.approx(once["mean"], abs=0.03)


def test_counts_of_a_resample_add_up_to_the_number_of_images():
    totals = []

    def record(values, weights):
        totals.extend(weights.sum(axis=1))
        return mean_score(values, weights)

    bootstrap_intervals(record, (np.arange(7.0),), seed=0, resamples=50)
    assert totals == [7.0] * 50


def test_the_weighted_r2_is_scikit_learns_on_the_copied_resample():
    generator = np.random.default_rng(0)
    true = generator.uniform(-24, -22, 50)
    predicted = generator.normal(true, 0.3)
    indices, counts = drawn(50, 30, seed=1)
    ours = weighted_r2(true, predicted, counts)["r2"]
    assert ours == pytest.approx([r2_score(true[row], predicted[row]) for row in indices])


def test_the_weighted_calibration_error_is_that_of_the_copied_resample():
    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(3, size=80), generator.dirichlet(np.ones(3), 80)
    indices, counts = drawn(80, 20, seed=1)
    correct = probabilities.argmax(axis=1) == labels
    ours = weighted_calibration_error(probabilities.max(axis=1), correct, counts)
    copied = [calibration_error(labels[row], probabilities[row]) for row in indices]
    assert ours == pytest.approx(copied)


def test_a_metric_that_is_never_defined_has_no_interval():
    intervals = bootstrap_intervals(weighted_r2, (np.ones(5), np.arange(5.0)), seed=0)
    assert intervals == {"r2": None}


@pytest.mark.parametrize("arrays", [(), (np.zeros(0),), (np.zeros(3), np.zeros(4))])
def test_arrays_without_a_common_length_are_refused(arrays):
    with pytest.raises(ValueError, match="one length"):
        bootstrap_intervals(mean_score, arrays, seed=0)


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="resamples=0"):
        bootstrap_intervals(mean_score, (np.ones(3),), seed=0, resamples=0)


def test_a_full_test_set_takes_seconds():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=15_000)
    probabilities = generator.dirichlet(np.ones(3), size=15_000)
    start = time.process_time()
    classification_intervals(labels, probabilities, ["axion", "cdm", "no_sub"], seed=0)
    assert time.process_time() - start < 15
