"""Schedules against closed forms, what decays, and what is refused."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError
from deeplens_tf.models import SelectiveAdamW, SelectiveSGD
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.optimizers import build_optimizer, learning_rate
from deeplens_tf.training.pretraining import pretrain


@pytest.fixture(scope="module")
def settings():
    words = ["optimizer.learning_rate=0.01", "optimizer.warmup_epochs=2"]
    return load_config("defaults", words).optimizer


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def closed_form(step, peak, warmup, total):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + np.cos(np.pi * (step - warmup) / (total - warmup))) / 2


@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(10, 2), (7, 0.5), (3, 0)])
def test_the_rate_is_a_warm_up_and_a_cosine(settings, epochs, warmup_epochs):
    config, total = replace(settings, warmup_epochs=warmup_epochs), 20 * epochs
    warmup, steps = round(20 * warmup_epochs), range(total + 1)
    expected = [closed_form(step, 0.01, warmup, total) for step in steps]
    found = rates(learning_rate(config, 20, epochs), steps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    assert found[0] > 0
    assert found[warmup] == found.max() == pytest.approx(0.01)
    assert found[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warm_up_as_long_as_the_schedule_only_rises(settings, schedule):
    found = rates(learning_rate(replace(settings, schedule=schedule), 20, 2), range(41))
    np.testing.assert_allclose(found[:40], 0.01 * np.arange(1, 41) / 40, rtol=1e-5)
    assert found[40] == pytest.approx(0.01)  # a run that is extended


@pytest.mark.parametrize("warmup_epochs", [2.05, 3])
def test_a_warm_up_longer_than_the_schedule_is_refused(settings, warmup_epochs):
    with pytest.raises(
        RequestError, match=r"optimizer\.warmup_epochs must be at most 2, the epochs"
    ):
        build_optimizer(replace(settings, warmup_epochs=warmup_epochs), 20, 2)


def test_a_constant_rate_warms_up(settings):
    config = replace(settings, schedule="constant")
    found = rates(learning_rate(config, 20, 5), range(100))
    np.testing.assert_allclose(found, 0.01 * np.minimum(np.arange(1, 101) / 40, 1), rtol=1e-5)


def test_a_constant_rate_without_warm_up_is_a_number(settings):
    config = replace(settings, schedule="constant", warmup_epochs=0)
    assert learning_rate(config, 20, 5) == 0.01
    assert float(build_optimizer(config, 20, 5).learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", SelectiveAdamW), ("adam", keras.optimizers.Adam), ("sgd", SelectiveSGD)],
)
def test_each_name_stands_for_its_optimizer_under_the_schedule(settings, name, kind):
    config = replace(settings, name=name, weight_decay=0.0)
    optimizer = build_optimizer(config, 20, 5)
    assert type(optimizer) is kind
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer.build([variable])
    optimizer.iterations.assign(40)  # the end of the warm-up
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_decay_shrinks_kernels_and_spares_all_else(settings, name):
    config = replace(settings, name=name, weight_decay=0.5, warmup_epochs=0)
    names = ("kernel", "bias", "gamma", "beta", "positions", "class_token", "mask_token")
    variables = [keras.Variable(np.ones(3, "float32"), name=name) for name in names]
    build_optimizer(config, 20, 5).apply([np.zeros(3, "float32")] * len(names), variables)
    for variable in variables:
        expected = 1 - 0.01 * 0.5 if variable.name == "kernel" else 1
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.name)


def test_a_decay_of_adam_is_refused(settings):
    expected = (
        r"weight_decay must be 0 for adam, not 0\.05.*weight_decay=0 or optimizer\.name=adamw"
    )
    with pytest.raises(RequestError, match=expected):
        build_optimizer(replace(settings, name="adam"), 20, 5)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_a_momentum_of_others_than_sgd_is_refused(settings, name):
    config = replace(settings, name=name, weight_decay=0.0, momentum=0.9)
    with pytest.raises(RequestError, match=rf"optimizer\.momentum must be 0 for {name}, not 0\.9"):
        build_optimizer(config, 20, 5)


def test_the_momentum_of_sgd_is_used(settings):
    config = replace(settings, name="sgd", weight_decay=0.0, momentum=0.9, warmup_epochs=0)
    config = replace(config, schedule="constant", clip_norm=None)
    optimizer, weight = build_optimizer(config, 20, 5), keras.Variable(np.zeros(1, "float32"))
    for _ in range(3):
        optimizer.apply([np.ones(1, "float32")], [weight])
    np.testing.assert_allclose(weight, -0.01 * (1 + 1.9 + 2.71), rtol=1e-5)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_an_unused_key_is_refused_before_the_data_is_prepared(stage, tmp_path):
    train = {"pretrain": pretrain, "finetune": finetune}[stage]
    config = load_config("defaults", ["optimizer.momentum=0.9"], str(tmp_path / "missing"))
    with pytest.raises(RequestError, match=r"optimizer\.momentum"):
        train(config, stage, str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("clip", "norm"), [(1.0, 1.0), (None, 5.0), (7.0, 5.0)])
def test_clipping_is_of_the_whole_gradients_norm(settings, clip, norm):
    config = replace(settings, name="sgd", schedule="constant", clip_norm=clip, warmup_epochs=0)
    first, second = (keras.Variable(np.zeros(1, "float32")) for _ in range(2))
    gradients = [np.array([3.0], "float32"), np.array([-4.0], "float32")]
    build_optimizer(config, 20, 5).apply(gradients, [first, second])
    np.testing.assert_allclose(first, -0.01 * 3 * norm / 5, rtol=1e-5)
    np.testing.assert_allclose(second, 0.01 * 4 * norm / 5, rtol=1e-5)
