"""The parts of a transformer block that are this package's own."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from deeplens_tf.models.transformer_block import gelu

X = np.linspace(-6, 6, 1001)


@pytest.mark.parametrize("compiled", [False, True])
def test_gelu_and_its_slope_equal_the_formula(compiled):
    @tf.function(jit_compile=compiled)
    def value_and_slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = gelu(x)
        return value, tape.gradient(value, x)

    cumulative = scipy.special.ndtr(X)
    density = np.exp(-(X**2) / 2) / np.sqrt(2 * np.pi)
    value, slope = value_and_slope(tf.constant(X, tf.float32))
    np.testing.assert_allclose(value, X * cumulative, atol=1e-6)
    np.testing.assert_allclose(slope, cumulative + X * density, atol=1e-6)
