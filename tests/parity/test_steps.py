"""One optimiser step from equal gradients, and BYOL's target after it."""

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.training.optimizers import build_optimizer
from parity.exchange import below
from tests.parity.ours import byol_small, trainable_of, variables_of

STEPS = 3


@pytest.fixture
def start(given):
    return given("step")


@pytest.fixture
def model(start):
    """A small BYOL model whose parameters are the given ones."""
    model = byol_small()
    variables = variables_of(model)
    for name, value in below(start, "online").items():
        variables[name].assign(value)
    for name, value in below(start, "target").items():
        variables[f"target_{name}"].assign(value)
    return model


def adam():
    """The optimiser of the original's BYOL runs, as its configuration names it."""
    config = load_config("original_byol").optimizer
    return build_optimizer(config, steps_per_epoch=1, epochs=STEPS)


def test_adam_and_target_follow_the_originals(model, start, reference, differences):
    expected = reference("byol_steps")
    online, optimizer = trainable_of(model), adam()
    target = {name: variables_of(model)[f"target_{name}"] for name in below(start, "target")}
    for step in range(STEPS):
        gradients = below(start, f"gradient/{step}")
        optimizer.apply([gradients[name] for name in online], list(online.values()))
        model.update_target()
        for part, variables in (("online", online), ("target", target)):
            ours = {name: variable.numpy() for name, variable in variables.items()}
            theirs = below(expected, f"{step}/{part}")
            differences.hold(f"BYOL, Adam step {step + 1}", f"{part} weights", ours, theirs, 1e-6)


def test_adam_follows_keras_2s_current_one(model, start, reference, differences):
    online, optimizer = trainable_of(model), adam()
    for step in range(STEPS):
        gradients = below(start, f"gradient/{step}")
        optimizer.apply([gradients[name] for name in online], list(online.values()))
    ours = {name: variable.numpy() for name, variable in online.items()}
    differences.hold(
        "Adam, Keras 2's current", "3 steps", ours, dict(reference("adam_steps")), 1e-6
    )
