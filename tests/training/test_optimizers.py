"""Schedules against closed forms, and what decays."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.training.optimizers import build_optimizer, learning_rate
from tests.models.tiny import tiny_original


@pytest.fixture(scope="module")
def settings():
    words = ["optimizer.learning_rate=0.01", "optimizer.warmup_epochs=2"]
    return load_config("defaults", words).optimizer


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def closed_form(step, peak, warmup, total):
    if step < warmup:
        return peak * step / warmup
    return peak * (1 + np.cos(np.pi * (step - warmup) / (total - warmup))) / 2


@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(10, 2), (7, 0.5), (3, 0)])
def test_the_rate_is_a_warm_up_and_a_cosine(settings, epochs, warmup_epochs):
    config, total = replace(settings, warmup_epochs=warmup_epochs), 20 * epochs
    warmup, steps = 20 * warmup_epochs, range(total + 1)
    expected = [closed_form(step, 0.01, warmup, total) for step in steps]
    found = rates(learning_rate(config, 20, epochs), steps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    assert found.argmax() == warmup
    assert found.max() == pytest.approx(0.01)
    assert found[-1] == pytest.approx(0, abs=1e-9)


def test_a_run_shorter_than_its_warm_up_only_rises(settings):
    found = rates(learning_rate(settings, 20, 1), range(21))
    np.testing.assert_allclose(found, 0.01 * np.arange(21) / 40, rtol=1e-5)


def test_a_constant_rate_is_constant(settings):
    config = replace(settings, schedule="constant")
    assert learning_rate(config, 20, 5) == 0.01
    assert float(build_optimizer(config, 20, 5).learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_each_name_stands_for_its_optimizer_under_the_schedule(settings, name):
    optimizer = build_optimizer(replace(settings, name=name), 20, 5)
    assert type(optimizer).__name__.lower() == name
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer.build([variable])
    optimizer.iterations.assign(40)  # the end of the warm-up
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


def test_decay_shrinks_kernels_and_spares_all_else(settings):
    config = replace(settings, schedule="constant", weight_decay=0.5)
    encoder = tiny_original()
    for variable in encoder.trainable_variables:
        variable.assign(np.ones(variable.shape, "float32"))
    optimizer = build_optimizer(config, 20, 5)
    zeros = [np.zeros(variable.shape, "float32") for variable in encoder.trainable_variables]
    optimizer.apply(zeros, encoder.trainable_variables)
    kernels = 0
    for variable in encoder.trainable_variables:
        decays = variable.path.endswith("kernel")
        kernels += decays
        expected = 1 - 0.01 * 0.5 if decays else 1
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.path)
    assert kernels == 1 + 2 * 6 + 3  # the patches', six a block, the top's


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_only_adamw_decays(settings, name):
    config = replace(settings, name=name, schedule="constant", weight_decay=0.5)
    variable = keras.Variable(np.ones(3, "float32"), name="kernel")
    build_optimizer(config, 20, 5).apply([np.zeros(3, "float32")], [variable])
    np.testing.assert_array_equal(variable, 1)


@pytest.mark.parametrize(("clip", "norm"), [(1.0, 1.0), (None, 5.0), (7.0, 5.0)])
def test_clipping_is_of_the_whole_gradients_norm(settings, clip, norm):
    config = replace(settings, name="sgd", schedule="constant", clip_norm=clip)
    first, second = (keras.Variable(np.zeros(1, "float32")) for _ in range(2))
    gradients = [np.array([3.0], "float32"), np.array([-4.0], "float32")]
    build_optimizer(config, 20, 5).apply(gradients, [first, second])
    np.testing.assert_allclose(first, -0.01 * 3 * norm / 5, rtol=1e-5)
    np.testing.assert_allclose(second, 0.01 * 4 * norm / 5, rtol=1e-5)
