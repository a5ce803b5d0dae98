"""Self-attention against Keras's layer and against loops from the formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from deeplens_tf.models.attention import SelfAttention

BATCH, TOKENS, WIDTH, HEADS = 3, 5, 12, 2


def layers(policy="float32"):
    """Keras's layer and ours with the same random weights."""
    theirs = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dtype=policy)
    ours = SelfAttention(HEADS, WIDTH // HEADS, dtype=policy)
    theirs.build((None, TOKENS, WIDTH), (None, TOKENS, WIDTH))
    ours.build((None, TOKENS, WIDTH))
    rng = np.random.default_rng(0)
    theirs.set_weights([rng.normal(0, 0.5, weight.shape) for weight in theirs.weights])
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def tokens(scale=1.0):
    values = np.random.default_rng(1).normal(0, scale, (BATCH, TOKENS, WIDTH))
    return tf.constant(values, "float32")


def by_loops(x, layer):
    """The formula in float64, one image, head and token at a time."""
    query, key, value, out = (
        (np.asarray(part.kernel, "float64"), np.asarray(part.bias, "float64"))
        for part in (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    )
    result = np.zeros(x.shape)
    for image, head, i in np.ndindex(len(x), HEADS, TOKENS):
        q, *_ = x[image, i] @ query[0][:, head] + query[1][head, None]
        keys = [x[image, j] @ key[0][:, head] + key[1][head] for j in range(TOKENS)]
        values = [x[image, j] @ value[0][:, head] + value[1][head] for j in range(TOKENS)]
        scores = np.array([q @ k for k in keys]) / np.sqrt(WIDTH / HEADS)
        weights = np.exp(scores) / np.exp(scores).sum()
        result[image, i] += sum(w * v for w, v in zip(weights, values, strict=True)) @ out[0][head]
    return result + out[1]


def test_it_equals_the_formula():
    _, ours = layers()
    x = tokens()
    np.testing.assert_allclose(ours(x), by_loops(np.asarray(x, "float64"), ours), atol=3e-6)


def gradients(layer, x, *arguments):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(layer(x, *arguments)))
    return tape.gradient(loss, [x, *layer.trainable_weights])


@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients_equal_those_of_keras(compiled):
    theirs, ours = layers()
    x = tokens()
    np.testing.assert_allclose(ours(x), theirs(x, x), atol=3e-6)
    computed = tf.function(gradients, jit_compile=compiled)(ours, x)
    assert len(computed) == 9
    for own, other in zip(computed, gradients(theirs, x, x), strict=True):
        np.testing.assert_allclose(own, other, atol=2e-5)


def test_scores_that_would_overflow_are_no_trouble():
    theirs, ours = layers()
    x = tokens(scale=1e3)  # scores near a million: their exponential is infinite
    np.testing.assert_allclose(ours(x), theirs(x, x), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_stays_half_and_close(half, compiled):
    _, exact = layers()
    _, ours = layers(f"mixed_{half}")
    found = ours(tokens())
    assert found.dtype == half
    np.testing.assert_allclose(ops.cast(found, "float32"), exact(tokens()), atol=0.15)
    computed = tf.function(gradients, jit_compile=compiled)(ours, tokens())
    expected = gradients(exact, tokens())
    largest = max(np.abs(gradient).max() for gradient in expected)
    for own, other in zip(computed, expected, strict=True):
        assert own.dtype == "float32"
        np.testing.assert_allclose(own, other, atol=0.05 * largest)


def test_double_precision_stays_double():
    _, ours = layers("float64")  # Keras's own layer scales by a float32 number
    x = tf.cast(tokens(), "float64")
    np.testing.assert_allclose(ours(x), by_loops(x.numpy(), ours), rtol=1e-12)


def test_it_is_rebuilt_from_its_configuration():
    _, ours = layers()
    other = SelfAttention.from_config(ours.get_config())
    other.build((None, TOKENS, WIDTH))
    other.set_weights(ours.get_weights())
    np.testing.assert_array_equal(other(tokens()), ours(tokens()))


def test_an_empty_batch_has_no_result():
    _, ours = layers()
    assert ours(tokens()[:0]).shape == (0, TOKENS, WIDTH)


def test_its_file_holds_what_keras_layer_holds():
    theirs, ours = layers()
    assert [w.path.split("/")[-2:] for w in ours.weights] == [
        w.path.split("/")[-2:] for w in theirs.weights
    ]
    symbolic = ours(keras.Input((TOKENS, WIDTH)))
    assert (
        symbolic.shape == ours.compute_output_shape((None, TOKENS, WIDTH)) == (None, TOKENS, WIDTH)
    )
