"""Intervals against SciPy, polynomials, published limits and closed forms."""

import numpy as np
import pytest
from scipy import stats

from deeplens_tf.metrics.intervals import (
    Z_95,
    area_interval,
    f1_interval,
    mean_interval,
    plain_interval,
    positive_mean_interval,
    wilson_interval,
)


@pytest.mark.parametrize("trials", [1, 7, 60, 1000])
def test_the_interval_of_a_proportion_is_scipys(trials):
    hits = np.unique(np.linspace(0, trials, 9).astype(int))
    theirs = [stats.binomtest(k, trials).proportion_ci(method="wilson") for k in hits.tolist()]
    assert wilson_interval(hits, np.full(len(hits), trials)) == pytest.approx(np.array(theirs))


def test_the_interval_of_a_proportion_agrees_with_published_limits():
    """Table I of Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0)."""
    limits = wilson_interval([81, 15, 0, 1], [263, 148, 20, 29])
    expected = [[0.2553, 0.3662], [0.0624, 0.1605], [0.0, 0.1611], [0.0061, 0.1718]]
    assert limits == pytest.approx(np.array(expected), abs=5e-5)


def test_sixty_of_sixty_right_leave_room_for_errors():
    low, high = wilson_interval(60, 60)
    assert low == pytest.approx(60 / (60 + Z_95**2))
    assert high == 1.0


def test_a_proportion_of_nothing_has_no_interval():
    assert plain_interval(wilson_interval(0, 0)) is None


def test_the_interval_of_f1_is_that_of_the_overlap():
    hits, true, predicted = 30, 40, 45
    overlap = stats.binomtest(30, 55).proportion_ci(method="wilson")
    expected = [2 * edge / (1 + edge) for edge in overlap]
    assert f1_interval(hits, true, predicted) == pytest.approx(expected)


def areas_within(measured, positives, negatives):
    """Return the outermost areas of a grid whose distance is at most 1.96 standard errors.

    The variance is the mean of Hanley & McNeil's with either kind as the first, of equal sizes.
    """
    areas = np.linspace(0, 1, 200_001)
    both_positives, both_negatives = areas / (2 - areas), 2 * areas**2 / (1 + areas)
    others = (positives + negatives) / 2 - 1
    covariances = others * (both_positives + both_negatives - 2 * areas**2)
    variance = (areas * (1 - areas) + covariances) / (positives * negatives)
    inside = areas[(areas - measured) ** 2 <= Z_95**2 * variance]
    return [inside[0], inside[-1]]


@pytest.mark.parametrize("area", [0.0, 0.3, 0.5, 0.81, 0.999, 1.0])
@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (5, 5), (12, 588), (500, 500)])
def test_the_interval_of_an_area_holds_the_areas_within_two_standard_errors(
    area, positives, negatives
):
    low, high = area_interval(area, positives, negatives)
    assert [low, high] == pytest.approx(areas_within(area, positives, negatives), abs=2e-5)
    assert 0.0 <= low <= area <= high <= 1.0


def test_a_perfect_area_of_more_images_is_known_better_and_never_exactly():
    widths = [np.ptp(area_interval(1.0, n, n)) for n in (1, 3, 30, 3000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] > 0
    assert widths[0] == pytest.approx(Z_95**2 / (1 + Z_95**2))  # one pair: Wilson's of 1 in 1


def test_the_interval_of_an_area_is_symmetric():
    low, high = area_interval(0.83, 20, 70)
    assert area_interval(0.17, 70, 20) == pytest.approx([1 - high, 1 - low])
    assert plain_interval(area_interval(np.nan, 0, 7)) is None


def test_a_mean_of_independent_quantities_is_known_as_standard_errors_add():
    values, half = np.array([0.4, 0.5, 0.7]), np.array([0.03, 0.04, 0.12])
    limits = np.stack([values - half, values + half], axis=1)
    expected = values.mean() + np.array([-1, 1]) * 0.13 / 3  # 0.03² + 0.04² + 0.12² = 0.13²
    assert mean_interval(values, limits, np.eye(3)) == pytest.approx(expected)


def test_a_mean_of_quantities_that_err_together_has_the_mean_of_the_limits():
    values, limits = np.array([0.4, 0.9]), np.array([[0.3, 0.6], [0.7, 0.94]])
    assert mean_interval(values, limits) == pytest.approx([0.5, 0.77])
    weighted = mean_interval(values, limits, weights=np.array([30, 10]))
    assert weighted == pytest.approx([0.4, 0.685])


def test_the_difference_of_distances_on_the_two_sides_is_kept():
    values, limits = np.array([0.8, 1.0]), np.array([[0.5, 0.95], [0.6, 1.0]])
    low, high = mean_interval(values, limits, np.eye(2))
    assert low == pytest.approx(0.9 - np.hypot(0.3, 0.4) / 2)
    assert high == pytest.approx(0.9 + 0.15 / 2)


def test_the_interval_of_a_mean_error_is_students_and_positive():
    values = np.random.default_rng(0).exponential(size=4000)
    students = stats.t.interval(0.95, 3999, values.mean(), stats.sem(values))
    assert positive_mean_interval(values) == pytest.approx(students, rel=1e-3)
    low, high = positive_mean_interval(np.array([0.01, 5.0, 0.02]))
    assert 0 < low < 1.68 < high
    assert low * high == pytest.approx(np.mean([0.01, 5.0, 0.02]) ** 2)


@pytest.mark.parametrize("values", [[0.3], [0.0, 0.0]])
def test_errors_that_say_nothing_of_their_spread_have_no_interval(values):
    assert plain_interval(positive_mean_interval(np.array(values))) is None
