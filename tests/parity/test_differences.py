"""The comparison itself, without the original's stack: what must fail does."""

import numpy as np
import pytest

from tests.parity.differences import Differences

THEIRS = {"dense/kernel": np.array([[4.0, -2.0], [0.0, 1.0]]), "dense/bias": np.zeros(2)}


def changed(name, index, value):
    """Return the reference's arrays with one number of one of them replaced."""
    arrays = {key: array.copy() for key, array in THEIRS.items()}
    arrays[name][index] = value
    return arrays


def hold(ours, theirs=THEIRS, tolerance=1e-6):
    differences = Differences()
    differences.hold("piece", "compared", ours, theirs, tolerance)
    return differences


def test_equal_arrays_pass_and_are_recorded():
    assert hold(changed("dense/bias", 0, 0.0)).rows == [("piece", "compared", 6, 0.0, "1e-06")]


def test_the_scale_is_the_largest_value_of_the_layer():
    ours = changed("dense/bias", 1, 1e-3)
    assert hold(ours, tolerance=3e-4).rows[0][3] == pytest.approx(2.5e-4)
    with pytest.raises(AssertionError, match=r"piece, compared: 0\.00025 > 0\.0002"):
        hold(ours, tolerance=2e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(THEIRS))
def test_what_is_not_finite_fails_on_either_side(name, value):
    wrong = changed(name, 0, value)
    with pytest.raises(AssertionError, match=f"our {name} is not finite"):
        hold(wrong, tolerance=np.inf)
    with pytest.raises(AssertionError, match=f"{name} is not finite"):
        hold(wrong, wrong, tolerance=np.inf)
    with pytest.raises(AssertionError, match=f"their {name} is not finite"):
        hold(THEIRS, wrong, tolerance=np.inf)


@pytest.mark.parametrize("difference", [np.nan, np.inf])
def test_a_figure_that_is_not_finite_fails(difference):
    with pytest.raises(AssertionError, match="the difference is"):
        Differences().hold_figure("piece", "compared", 1, difference, np.inf)
    with pytest.raises(AssertionError, match="the difference is"):
        Differences().note("piece", "compared", 1, difference)


def test_a_wrong_value_fails_and_is_recorded():
    differences = Differences()
    with pytest.raises(AssertionError, match=r"piece, compared: 0\.25 > 1e-06"):
        differences.hold("piece", "compared", changed("dense/kernel", (1, 1), 2.0), THEIRS, 1e-6)
    assert len(differences.rows) == 1


def test_a_name_on_one_side_only_fails():
    part = {"dense/kernel": THEIRS["dense/kernel"]}
    for pair in ((part, THEIRS), (THEIRS, part)):
        with pytest.raises(AssertionError, match=r"names differ: \['dense/bias'\]"):
            hold(*pair)


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        ({}, "nothing to compare"),
        ({"dense/kernel": np.ones((0, 2))}, "dense/kernel is empty"),
        ({"dense/kernel": np.zeros(2), "dense/bias": np.zeros(1)}, r"all zero .*\['dense'\]"),
    ],
)
def test_what_shows_nothing_fails(theirs, reason):
    with pytest.raises(AssertionError, match=reason):
        hold(theirs, theirs)


def test_another_number_of_values_fails():
    with pytest.raises(ValueError, match="cannot reshape"):
        hold(np.ones(4), np.ones(2))
