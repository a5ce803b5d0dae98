"""BYOL: the target's course by hand, and what may not move it."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.models import BYOLModel
from deeplens_tf.models.heads import batch_norm_mlp
from tests.models.pretexts import arrays, eager, make_batch, scores
from tests.models.tiny import randomise, reloaded, tiny_original, tiny_vit
from tests.test_losses_of_methods import naive_mean_cosine


def make_byol(encoder=tiny_vit, seed=0, **options):
    keras.utils.set_random_seed(seed)
    heads = (batch_norm_mlp((8, 6), name) for name in ("projector", "predictor"))
    return BYOLModel(encoder(), *heads, **options)


def networks(model):
    """The networks that follow each other: online, target."""
    return [(model.encoder, model.target_encoder), (model.projector, model.target_projector)]


def is_statistic(variable):
    return "moving_" in variable.path


def online_parameters(model):
    return arrays(v for ours, _ in networks(model) for v in ours.weights if not is_statistic(v))


def target_parameters(model):
    return [v for _, target in networks(model) for v in target.weights if not is_statistic(v)]


def beta_by_formula(beta, k, total):
    return 1 - (1 - beta) * (math.cos(math.pi * k / total) + 1) / 2


@pytest.mark.parametrize(
    ("beta", "total_steps"), [(0.9, 4), pytest.param(0.99, None, marks=pytest.mark.slow)]
)
def test_three_steps_follow_the_recurrence(beta, total_steps):
    model = eager(make_byol(tiny_original, momentum=beta, total_steps=total_steps), "adam")
    expected = arrays(target_parameters(model))
    start = expected
    for k in range(3):
        model.train_on_batch(make_batch(seed=k))
        share = beta if total_steps is None else beta_by_formula(beta, k, total_steps)
        moved = zip(expected, online_parameters(model), strict=True)
        expected = [share * old + (1 - share) * online for old, online in moved]
    for variable, values, old in zip(target_parameters(model), expected, start, strict=True):
        np.testing.assert_allclose(variable.numpy(), values, atol=1e-7, err_msg=variable.path)
        assert (variable.numpy() != old).any(), variable.path
    assert int(model.updates.numpy()) == 3


@pytest.mark.slow
def test_the_target_moves_once_a_step_however_many_steps_an_execution_has():
    parts = [make_batch(seed=k) for k in range(8)]
    stacked = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    batches = tf.data.Dataset.from_tensor_slices(stacked).batch(8, drop_remainder=True)
    targets = []
    for steps in (1, 4):
        model = make_byol(momentum=0.9, total_steps=9)
        model.compile(keras.optimizers.SGD(0.1), steps_per_execution=steps, jit_compile=False)
        model.fit(batches, epochs=1, verbose=0, shuffle=False)
        assert int(model.updates.numpy()) == 8
        targets.append(arrays(target_parameters(model)))
    for one, four in zip(*targets, strict=True):
        np.testing.assert_allclose(one, four, atol=1e-6)


def test_scoring_leaves_the_target_where_it_is():
    model = make_byol()
    before = arrays(target_parameters(model))
    model.encoder.embedding.positions.assign_add(np.ones((1, 6, 12)))
    scores(model, make_batch())
    for old, variable in zip(before, target_parameters(model), strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert int(model.updates.numpy()) == 0


def test_a_fresh_target_is_a_copy_of_the_online_network_in_variables_of_its_own():
    model = make_byol(tiny_original)
    for online, target in networks(model):
        assert len(online.weights) == len(target.weights) > 0
        for ours, theirs in zip(online.weights, target.weights, strict=True):
            assert ours is not theirs
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_reloaded_model_keeps_its_target_and_its_place_in_the_schedule(tmp_path):
    model = randomise(make_byol(tiny_original, momentum=0.9, total_steps=50))
    model.updates.assign(7)
    other = reloaded(model, tmp_path)
    assert int(other.updates.numpy()) == 7
    assert float(other.target_update_rate()) == float(model.target_update_rate())
    for ours, theirs in zip(target_parameters(model), target_parameters(other), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    embeddings = other.encoder.embedding.positions, other.target_encoder.embedding.positions
    assert (embeddings[0].numpy() != embeddings[1].numpy()).any()
    assert not any(v.trainable for _, target in networks(other) for v in target.variables)


def test_no_target_variable_is_trainable_or_has_a_gradient():
    model, batch = make_byol(tiny_original), make_batch()
    variables = [v for _, target in networks(model) for v in target.variables]
    assert not any(variable.trainable for variable in variables)
    trained = {id(variable) for variable in model.trainable_variables}
    assert not trained & {id(variable) for variable in variables}
    values = [v.value for v in target_parameters(model)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
    assert all(gradient is None for gradient in tape.gradient(loss, values))


def test_the_target_is_float32_and_moves_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = eager(make_byol(tiny_original, momentum=0.999), keras.optimizers.Adam(0.01))
        start = arrays(target_parameters(model))
        model.train_on_batch(make_batch())
    finally:
        keras.config.set_dtype_policy("float32")
    online = online_parameters(model)
    for variable, old, new in zip(target_parameters(model), start, online, strict=True):
        assert variable.dtype == "float32"
        assert (variable.numpy() != old).any(), variable.path
        np.testing.assert_allclose(variable.numpy(), 0.999 * old + 0.001 * new, atol=1e-7)


@pytest.mark.parametrize("beta", [0.0, 0.97, 0.99])
def test_the_schedule_is_the_papers(beta):
    model = make_byol(momentum=beta, total_steps=20)
    for k in range(20):
        model.updates.assign(k)
        expected = 1 - beta_by_formula(beta, k, 20)
        assert float(model.target_update_rate()) == pytest.approx(expected, rel=1e-4)


def test_beta_reaches_one_at_the_last_step_and_never_before():
    model = make_byol(momentum=0.99, total_steps=1_000_000)
    model.updates.assign(999_999)
    expected = 0.01 * (math.pi / 2 / 1_000_000) ** 2
    assert float(model.target_update_rate()) == pytest.approx(expected, rel=0.1)
    for k in (1_000_000, 1_500_000):
        model.updates.assign(k)
        assert float(model.target_update_rate()) < 1e-15


def test_beta_is_constant_without_a_horizon():
    model = make_byol(momentum=0.99)
    model.updates.assign(10**6)
    assert model.target_update_rate() == pytest.approx(0.01)


def test_the_loss_is_the_mean_of_both_crossings():
    model, batch = make_byol(), make_batch()
    randomise(model)
    outputs = model(batch, training=False)
    (p1, p2), (z1, z2) = arrays(outputs["predictions"]), arrays(outputs["targets"])
    crossings = [2 - 2 * naive_mean_cosine(p, z) for p, z in ((p1, z2), (p2, z1))]
    assert abs(crossings[0] - crossings[1]) > 1e-6
    assert scores(model, batch)["pretext_loss"] == pytest.approx(np.mean(crossings), abs=1e-5)


def test_the_targets_batch_norm_keeps_statistics_of_what_it_sees_itself():
    model, batch = make_byol(momentum=0.5), make_batch()
    dense, norm = model.target_projector.layers[:2]
    norm.moving_mean.assign(np.full(8, 3.0))
    expected = np.full(8, 3.0)
    for view in ("view_1", "view_2"):
        hidden = arrays([dense(model.target_encoder(batch[view]))])[0]
        expected = 0.99 * expected + 0.01 * hidden.mean(axis=0)
    eager(model).train_on_batch(batch)
    # Not halfway to the online network's 0, as an average of all variables would be.
    np.testing.assert_allclose(norm.moving_mean.numpy(), expected, rtol=1e-5)


def test_the_target_normalises_by_the_batch_in_training():
    model, batch = make_byol(), make_batch()
    norm = model.target_projector.layers[1]
    moved = []
    for training in (True, False):
        before = arrays(model(batch, training=training)["targets"])
        norm.moving_mean.assign_add(np.full(8, -1.0))
        after = arrays(model(batch, training=training)["targets"])
        moved.append(np.abs(before[0] - after[0]).max())
    assert moved[0] < 1e-5 < 0.1 < moved[1]
