"""Intervals contain the true value in about 95 % of simulated test sets.

`benchmarks/interval_coverage.py` measures whole reports; these are single intervals whose true
values are known in closed form or by an integral.
"""

import numpy as np
import pytest
from scipy import integrate, stats

from deeplens_tf.metrics.class_intervals import area_limits
from deeplens_tf.metrics.intervals import (
    area_interval,
    f1_interval,
    mean_interval,
    positive_mean_interval,
    wilson_interval,
)
from deeplens_tf.metrics.ranking import area_under_curve, average_precision

REPETITIONS = 1000
KINDS = [(5, 5), (30, 30), (500, 500), (3, 57), (12, 588)]  # positives and negatives


def share_containing(limits, true):
    low, high = np.asarray(limits).T
    return np.mean((low <= true) & (true <= high))


def binormal(area, positives, negatives):
    """Yield (is_positive, scores) of classes whose area is known: Phi(distance / sqrt(2))."""
    generator = np.random.default_rng([positives, negatives])
    is_positive = np.arange(positives + negatives) < positives
    distance = np.sqrt(2) * stats.norm.ppf(area)
    for _ in range(REPETITIONS):
        yield is_positive, generator.normal(distance * is_positive)


@pytest.mark.parametrize(("images", "least"), [(10, 0.83), (60, 0.87), (1000, 0.93)])
def test_a_proportion(images, least):
    """Without simulation: the sum over all outcomes of those whose interval contains it."""
    hits, proportions = np.arange(images + 1), np.linspace(0.02, 0.98, 97)
    low, high = wilson_interval(hits, np.full(images + 1, images)).T
    chances = stats.binom.pmf(hits, images, proportions[:, None])
    inside = (low <= proportions[:, None]) & (proportions[:, None] <= high)
    covered = (chances * inside).sum(axis=1)
    assert 0.945 < covered.mean() < 0.96
    assert covered.min() > least
    assert images < 1000 or covered.max() < 0.98


@pytest.mark.parametrize("area", [0.8, 0.97])
@pytest.mark.parametrize(("positives", "negatives"), KINDS)
def test_an_area(area, positives, negatives):
    limits = [
        area_interval(area_under_curve(*test_set), positives, negatives)
        for test_set in binormal(area, positives, negatives)
    ]
    covered = share_containing(limits, area)
    assert covered >= 0.93
    assert positives < 500 or covered <= 0.99  # its variance is a little large at high areas


@pytest.mark.slow
@pytest.mark.parametrize("images", [10, 60, 1000])
def test_the_mean_area_of_three_classes(images):
    def draw(images):
        scores = generator.normal(size=(images, 3))
        labels = generator.integers(3, size=images)
        scores[np.arange(images), labels] += 2.0
        return labels[:, None] == np.arange(3), scores - scores.max(axis=1, keepdims=True)

    generator = np.random.default_rng(0)
    is_class, scores = draw(100_000)
    true = np.mean([area_under_curve(is_class[:, k], scores[:, k]) for k in range(3)])
    limits = []
    for _ in range(REPETITIONS // 2):
        is_class, scores = draw(images)
        if is_class.any(axis=0).all():
            limits.append(area_limits(is_class, scores, "abc")["macro_auc"])
    assert share_containing(limits, true) >= 0.93


def true_average_precision(area, share):
    distance = np.sqrt(2) * stats.norm.ppf(area)

    def purity(score):
        hits, others = share * stats.norm.sf(score - distance), (1 - share) * stats.norm.sf(score)
        return hits / (hits + others)

    return integrate.quad(lambda s: purity(s) * stats.norm.pdf(s - distance), -8, 8 + distance)[0]


@pytest.mark.parametrize("area", [0.8, 0.97])
@pytest.mark.parametrize(("positives", "negatives"), KINDS)
def test_an_average_precision(area, positives, negatives):
    """A few rare lenses that score like others are the hardest: the estimate is biased upward."""
    true = true_average_precision(area, positives / (positives + negatives))
    values = [average_precision(*test_set) for test_set in binormal(area, positives, negatives)]
    limits = wilson_interval(positives * np.array(values), np.full(len(values), positives))
    assert share_containing(limits, true) >= (0.93 if true > 0.5 else 0.9)


@pytest.mark.parametrize("recalls", [(0.7, 0.8), (0.3, 0.99)])
@pytest.mark.parametrize(("positives", "negatives"), KINDS)
def test_a_balanced_accuracy(recalls, positives, negatives):
    trials = np.array([positives, negatives])
    hits = np.random.default_rng(0).binomial(trials, recalls, (REPETITIONS, 2))
    limits = [mean_interval(k / trials, wilson_interval(k, trials), np.eye(2)) for k in hits]
    assert share_containing(limits, np.mean(recalls)) >= 0.92


@pytest.mark.parametrize("images", [10, 60, 1000])
@pytest.mark.parametrize("shares", [(0.4, 0.1, 0.12), (0.15, 0.05, 0.1)])
def test_an_f1(images, shares):
    both, only_true, only_predicted = shares
    chances = [*shares, 1 - sum(shares)]
    counts = np.random.default_rng(0).multinomial(images, chances, REPETITIONS)
    hits, missed, false, _ = counts[counts[:, :3].any(axis=1)].T
    limits = f1_interval(hits, hits + missed, hits + false)
    true = 2 * both / (2 * both + only_true + only_predicted)
    assert share_containing(limits, true) >= 0.93


@pytest.mark.parametrize(
    ("images", "least_of_squares"), [(3, 0.91), (10, 0.89), (60, 0.93), (1000, 0.93)]
)
def test_mean_absolute_and_squared_errors(images, least_of_squares):
    errors = np.random.default_rng(0).normal(size=(REPETITIONS, images))
    of_sizes = [positive_mean_interval(np.abs(row)) for row in errors]
    of_squares = [positive_mean_interval(row**2) for row in errors]
    assert share_containing(of_sizes, np.sqrt(2 / np.pi)) >= 0.93
    assert share_containing(of_squares, 1.0) >= least_of_squares
