"""A rate for each variable: steps by hand in NumPy, and nothing else where all are equal."""

import json
import re

import keras
import numpy as np
import pytest

from deeplens_tf.models import DownstreamModel, ResNet50, SelectiveAdamW, SelectiveSGD, rate_factors
from deeplens_tf.models.heads import classification_head
from tests.models.tiny import tiny_original, tiny_vit

RATE, DECAY, MOMENTUM, BETAS, EPSILON = 0.01, 0.5, 0.9, (0.9, 0.999), 1e-7
NAMES = ("axion", "cdm", "no_sub")
# Of a network of two blocks, by parts of the paths: the top's layers and the head have none.
DEPTHS = {"block_1/": 1, "block_0/": 2, "embedding/": 3}


def under_a_head(encoder):
    return DownstreamModel(encoder, classification_head(3), NAMES)


def paths_of(layer):
    return {variable.path for variable in layer.variables}


def depth_of(path, depths=DEPTHS):
    return next((depth for part, depth in depths.items() if part in path), 0)


def resnet():
    encoder = ResNet50((32, 32, 1), top_width=4)
    encoder.build()
    return encoder


@pytest.mark.parametrize(
    ("make", "depths"),
    [
        (tiny_vit, DEPTHS),
        (tiny_original, DEPTHS),
        pytest.param(resnet, {f"conv{n}_": 6 - n for n in range(1, 6)}, marks=pytest.mark.slow),
    ],
)
def test_the_rate_falls_with_the_depth_below_the_top(make, depths):
    model = under_a_head(make())
    head = paths_of(model.head)
    factors = rate_factors(model, encoder_rate=0.2, layer_decay=0.5)
    found = set()
    for variable, factor in zip(model.trainable_variables, factors, strict=True):
        depth = depth_of(variable.path, depths)
        expected = 1 if variable.path in head else 0.2 * 0.5**depth
        assert factor == pytest.approx(expected), variable.path
        found.add(depth)
    assert found == {0, *depths.values()}
    assert set(rate_factors(model, 0.2)) == {0.2, 1.0}


def test_a_decay_along_an_unknown_depth_is_refused():
    images = keras.Input((4, 4, 1))
    encoder = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    model = under_a_head(encoder)
    assert rate_factors(model, 0.2) == [0.2, 0.2, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"layer_decay must be 1 for .*Received: layer_decay=0\.5"):
        rate_factors(model, 0.2, 0.5)


def gradients_of(model, steps, seed=0):
    generator = np.random.default_rng(seed)
    shapes = [variable.shape for variable in model.trainable_variables]
    return [[generator.normal(size=shape) for shape in shapes] for _ in range(steps)]


def apply(optimizer, model, gradients):
    variables = model.trainable_variables
    for step in gradients:
        optimizer.apply([gradient.astype("float32") for gradient in step], variables)


def test_a_step_of_sgd_by_hand_at_each_depth():
    model = under_a_head(tiny_vit())
    variables = model.trainable_variables
    expected = [np.asarray(variable, float) for variable in variables]
    moved = [np.zeros(variable.shape) for variable in variables]
    gradients, head = gradients_of(model, 3), paths_of(model.head)
    factors = rate_factors(model, 0.2, 0.5)
    apply(SelectiveSGD(RATE, DECAY, MOMENTUM, rate_factors=factors), model, gradients)
    for step in gradients:
        for i, (variable, gradient) in enumerate(zip(variables, step, strict=True)):
            rate = RATE * (1 if variable.path in head else 0.2 * 0.5 ** depth_of(variable.path))
            kept = 1 - rate * DECAY if variable.path.endswith("kernel") else 1
            moved[i] = MOMENTUM * moved[i] - rate * gradient
            expected[i] = kept * expected[i] + moved[i]
    for variable, weight in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, weight, rtol=1e-5, atol=1e-6, err_msg=variable.path)


def adam_by_hand(weight, gradients, rate, kept):
    first, second = np.zeros(weight.shape), np.zeros(weight.shape)
    for step, gradient in enumerate(gradients, start=1):
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        unbiased = first / (1 - BETAS[0] ** step), second / (1 - BETAS[1] ** step)
        weight = kept * weight - rate * unbiased[0] / (np.sqrt(unbiased[1]) + EPSILON)
    return weight


def test_steps_of_adamw_by_hand_after_those_of_the_head_alone():
    """The moments of a variable that starts late are unbiased by its own steps."""
    model, late = under_a_head(tiny_vit()), 5
    variables = model.trainable_variables
    is_head = [variable.path in paths_of(model.head) for variable in variables]
    begun = [np.asarray(variable, float) for variable in variables]
    gradients, factors = gradients_of(model, late + 4), rate_factors(model, 0.2, 0.5)
    starts = [0 if own else late for own in is_head]
    optimizer = SelectiveAdamW(RATE, DECAY, rate_factors=factors, first_steps=starts)
    optimizer.build(variables)
    heads = [variable for variable, own in zip(variables, is_head, strict=True) if own]
    for step in gradients[:late]:
        own = [each for each, of_head in zip(step, is_head, strict=True) if of_head]
        optimizer.apply([gradient.astype("float32") for gradient in own], heads)
    apply(optimizer, model, gradients[late:])
    for i, (variable, weight) in enumerate(zip(variables, begun, strict=True)):
        rate = RATE * (1 if is_head[i] else 0.2 * 0.5 ** depth_of(variable.path))
        kept = 1 - rate * DECAY if variable.path.endswith("kernel") else 1
        expected = adam_by_hand(weight, [step[i] for step in gradients[starts[i] :]], rate, kept)
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("kind", [SelectiveAdamW, SelectiveSGD])
def test_equal_rates_are_kerass_own_steps_bit_for_bit(kind):
    kerass = {SelectiveAdamW: keras.optimizers.AdamW, SelectiveSGD: keras.optimizers.SGD}[kind]
    trained = []
    for optimizer in (kind(RATE, weight_decay=DECAY), kerass(RATE, weight_decay=DECAY)):
        keras.utils.set_random_seed(0)
        model = under_a_head(tiny_vit())
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        apply(optimizer, model, gradients_of(model, 3))
        trained.append(model)
    for ours, theirs in zip(*(model.trainable_variables for model in trained), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    assert not {"rate_factors", "first_steps"} & kind().get_config().keys()


@pytest.mark.parametrize("kind", [SelectiveAdamW, SelectiveSGD])
def test_a_file_keeps_the_rates(kind):
    options = {"rate_factors": [0.25, 1.0]}
    if kind is SelectiveAdamW:
        options["first_steps"] = [3, 0]
    stored = json.dumps(keras.saving.serialize_keras_object(kind(RATE, **options)))
    found = keras.saving.deserialize_keras_object(json.loads(stored))
    assert type(found) is kind
    assert {key: list(getattr(found, key)) for key in options} == options


def test_factors_of_another_model_are_refused():
    model = under_a_head(tiny_vit())
    count = len(model.trainable_variables)
    with pytest.raises(ValueError, match=rf"one factor for each of {count} .*Received: 2"):
        SelectiveSGD(RATE, rate_factors=[1, 1]).build(model.trainable_variables)


def test_every_path_has_the_form_that_the_depths_here_assume():
    paths = [variable.path for variable in under_a_head(tiny_vit()).encoder.variables]
    assert all(re.search(r"(embedding|block_[01]|norm)/", path) for path in paths)
