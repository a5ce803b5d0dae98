"""InfoNCE against naive loops written from the formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.losses import contrastive_loss, cosine_similarities, normalised


def naive_loss(first, second, temperature):
    """Symmetric InfoNCE in float64, one pair, one direction, one term at a time."""
    losses = []
    for i in range(len(first)):
        directions = []
        for anchors, others in ((first, second), (second, first)):
            logits = []
            for j in range(len(others)):
                cosine = float(np.dot(anchors[i], others[j]))
                cosine /= np.linalg.norm(anchors[i]) * np.linalg.norm(others[j])
                logits.append(cosine / temperature)
            directions.append(np.log(sum(np.exp(logit) for logit in logits)) - logits[i])
        losses.append(sum(directions) / 2)
    return np.array(losses)


def two_sets(batch, dim, seed=0, dtype="float64"):
    generator = np.random.default_rng(seed)
    return tuple((3 * generator.normal(size=(batch, dim))).astype(dtype) for _ in range(2))


def loss_of(first, second, temperature=0.1):
    return keras.ops.convert_to_numpy(contrastive_loss(first, second, temperature))


@pytest.mark.parametrize(("batch", "dim"), [(1, 4), (2, 1), (5, 3), (16, 64), (33, 8)])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 2.0])
def test_the_loss_is_the_naive_one(batch, dim, temperature):
    first, second = two_sets(batch, dim, seed=batch)
    loss = loss_of(first.astype("float32"), second.astype("float32"), temperature)
    assert loss.shape == (batch,)
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, naive_loss(first, second, temperature), rtol=1e-4, atol=2e-5)


def test_the_temperature_is_a_tenth_unless_said_otherwise():
    first, second = two_sets(6, 4)
    loss = keras.ops.convert_to_numpy(contrastive_loss(first, second))
    np.testing.assert_allclose(loss, naive_loss(first, second, 0.1), rtol=1e-4)


def test_the_views_may_change_places():
    first, second = two_sets(9, 5)
    np.testing.assert_allclose(loss_of(first, second), loss_of(second, first), rtol=1e-6)


def test_a_permutation_of_the_batch_permutes_the_loss():
    first, second = two_sets(9, 5)
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(
        loss_of(first[order], second[order]), loss_of(first, second)[order], rtol=1e-5
    )


def test_the_length_of_a_projection_does_not_count():
    first, second = two_sets(7, 5)
    scales = np.linspace(0.1, 40, 7)[:, None]
    np.testing.assert_allclose(
        loss_of(first * scales, second / scales), loss_of(first, second), rtol=1e-4, atol=1e-6
    )


def test_equal_pairs_that_are_orthogonal_to_all_others_reach_the_lowest_loss():
    # Each row then holds one cosine of 1 and n - 1 of 0.
    loss = loss_of(np.eye(4, dtype="float32"), np.eye(4, dtype="float32"), temperature=0.5)
    np.testing.assert_allclose(loss, np.log1p(3 * np.exp(-2.0)), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_zero_vectors_stay_zero_and_give_a_finite_loss(dtype):
    first, second = two_sets(4, 3, dtype=dtype)
    first[0], second[1] = 0, 0
    loss = loss_of(first, second)
    assert np.isfinite(loss).all()
    np.testing.assert_array_equal(normalised(first)[0], 0)
    # The zero vector's row of similarities is flat: it picks among four with equal chances.
    alone = loss_of(np.zeros((4, 3), dtype), second)
    np.testing.assert_allclose(alone, np.log(4), rtol=1e-6)


def test_zero_vectors_give_a_finite_gradient():
    first, second = two_sets(4, 3, dtype="float32")
    first[0], second[1] = 0, 0
    inputs = tf.Variable(first), tf.Variable(second)
    with tf.GradientTape() as tape:
        loss = contrastive_loss(*inputs)
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, inputs))


def test_half_precision_inputs_are_taken_in_float32():
    first, second = two_sets(8, 4, dtype="float16")
    loss = loss_of(first * 100, second * 100)  # the squares overflow float16
    expected = naive_loss(first.astype("float64"), second.astype("float64"), 0.1)
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_gradient_is_the_naive_losss_slope(temperature):
    pair = two_sets(4, 3, seed=3)
    inputs = [tf.Variable(side.astype("float32")) for side in pair]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(contrastive_loss(*inputs, temperature))
    for side, gradient in enumerate(tape.gradient(loss, inputs)):
        slopes = np.zeros((4, 3))
        for place in np.ndindex(4, 3):
            step = np.zeros((4, 3))
            step[place] = 1e-5
            up, down = list(pair), list(pair)
            up[side], down[side] = pair[side] + step, pair[side] - step
            rise = naive_loss(*up, temperature) - naive_loss(*down, temperature)
            slopes[place] = rise.mean() / 2e-5
        np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-5)


def test_row_i_of_the_similarities_is_view_1_of_example_i():
    first, second = two_sets(5, 3)
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    expected = first @ second.T / lengths / 0.2
    np.testing.assert_allclose(cosine_similarities(first, second, 0.2), expected, atol=1e-5)
