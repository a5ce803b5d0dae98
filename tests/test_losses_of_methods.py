"""The losses of BYOL, SimSiam and Barlow Twins against naive loops in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.losses import barlow_twins_loss, byol_loss, cross_correlation, simsiam_loss
from tests.test_losses import two_sets

SHAPES = [(2, 1), (2, 3), (7, 4), (33, 16)]


def naive_mean_cosine(first, second):
    cosines = []
    for p, z in zip(first, second, strict=True):
        lengths = sum(x * x for x in p) ** 0.5 * sum(x * x for x in z) ** 0.5
        cosines.append(sum(x * y for x, y in zip(p, z, strict=True)) / lengths)
    return sum(cosines) / len(cosines)


def naive_correlation(first, second, i, j):
    x, y = first[:, i] - first[:, i].mean(), second[:, j] - second[:, j].mean()
    return sum(x * y) / (sum(x * x) * sum(y * y)) ** 0.5


def naive_barlow_twins(first, second, weight):
    loss = 0.0
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            correlation = naive_correlation(first, second, i, j)
            loss += (1 - correlation) ** 2 if i == j else weight * correlation**2
    return loss


def number(tensor):
    value = keras.ops.convert_to_numpy(tensor)
    assert value.shape == ()
    assert value.dtype == np.float32
    return float(value)


@pytest.mark.parametrize(("batch", "dim"), SHAPES)
def test_byol_and_simsiam_are_the_naive_cosine(batch, dim):
    p, z = two_sets(batch, dim, seed=batch)
    cosine = naive_mean_cosine(p, z)
    assert number(byol_loss(p, z)) == pytest.approx(2 - 2 * cosine, abs=1e-5)
    assert number(simsiam_loss(p, z)) == pytest.approx(-cosine, abs=1e-5)


def test_byols_loss_is_the_squared_distance_of_unit_vectors():
    p, z = two_sets(9, 5)
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (p, z)]
    distance = ((unit[0] - unit[1]) ** 2).sum(axis=1).mean()
    assert number(byol_loss(p, z)) == pytest.approx(distance, rel=1e-5)


@pytest.mark.parametrize(("sign", "byol", "simsiam"), [(1, 0, -1), (-1, 4, 1)])
def test_the_ends_of_the_scales(sign, byol, simsiam):
    p, _ = two_sets(6, 4)
    assert number(byol_loss(p, sign * 3 * p)) == pytest.approx(byol, abs=1e-5)
    assert number(simsiam_loss(p, sign * 3 * p)) == pytest.approx(simsiam, abs=1e-5)


def test_simsiam_moves_the_prediction_only():
    p, z = (tf.Variable(side.astype("float32")) for side in two_sets(5, 3))
    with tf.GradientTape() as tape:
        loss = simsiam_loss(p, z)
    moved, held = tape.gradient(loss, (p, z))
    assert held is None
    assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("loss", [byol_loss, simsiam_loss, barlow_twins_loss])
def test_zero_vectors_give_a_finite_loss_and_gradient(loss):
    p, z = (tf.Variable(side.astype("float32")) for side in two_sets(5, 3))
    p.assign(tf.zeros_like(p))
    with tf.GradientTape() as tape:
        value = loss(p, z)
    assert np.isfinite(number(value))
    assert np.isfinite(tape.gradient(value, p)).all()


@pytest.mark.parametrize("loss", [byol_loss, simsiam_loss, barlow_twins_loss])
def test_half_precision_inputs_are_taken_in_float32(loss):
    first, second = (100 * side.astype("float16") for side in two_sets(8, 4))  # squares overflow
    expected = number(loss(first.astype("float32"), second.astype("float32")))
    assert number(loss(first, second)) == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(number(loss(np.zeros_like(first), second)))


@pytest.mark.parametrize(("batch", "dim"), SHAPES[1:])
@pytest.mark.parametrize("weight", [0.0, 5e-3, 1.0])
def test_barlow_twins_is_the_naive_one(batch, dim, weight):
    first, second = two_sets(batch, dim, seed=batch)
    loss = number(barlow_twins_loss(first, second, weight))
    assert loss == pytest.approx(naive_barlow_twins(first, second, weight), rel=1e-3, abs=1e-4)


def test_the_off_diagonal_weighs_five_thousandths_unless_said_otherwise():
    first, second = two_sets(8, 5)
    assert number(barlow_twins_loss(first, second)) == pytest.approx(
        naive_barlow_twins(first, second, 5e-3), rel=1e-4
    )


def test_the_cross_correlation_is_numpys():
    first, second = two_sets(20, 4)
    expected = np.corrcoef(first, second, rowvar=False)[:4, 4:]
    np.testing.assert_allclose(cross_correlation(first, second), expected, atol=1e-4)


def test_equal_views_of_independent_numbers_reach_the_lowest_loss():
    hadamard = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], "float32")
    assert number(barlow_twins_loss(hadamard, 5 * hadamard + 2)) == pytest.approx(0, abs=1e-4)


def test_a_constant_dimension_correlates_with_nothing():
    first, second = two_sets(6, 3)
    first[:, 1] = 7
    correlations = keras.ops.convert_to_numpy(cross_correlation(first, second))
    np.testing.assert_allclose(correlations[1], 0, atol=1e-6)
