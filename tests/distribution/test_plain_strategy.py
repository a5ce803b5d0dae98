"""Plain Keras in the scope of a strategy: with `connect_replicas`, two devices are as one."""

import json

import numpy as np
import pytest

from tests.distribution.plain_strategy import CASES
from tests.distribution.processes import run_program
from tests.distribution.test_strategy import part

TOLERANCE = 5e-6  # of weights that move by 1e-2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `plain_strategy` leaves."""
    folder = tmp_path_factory.mktemp("plain")
    cases = (*CASES, "refusals")
    run_program("tests.distribution.plain_strategy", folder, cases)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_replicas_train_as_one_device(folder, case):
    names = f"none-{case}.npz", f"mirrored-{case}.npz"
    one, two = (dict(np.load(folder / name)) for name in names)
    ours, theirs = ([*part(arrays, "weights").values()] for arrays in (two, one))
    for place, (found, expected) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=str(place))
    assert not any(part(two, "differences").values())
    metrics, expected = (
        {name: value.item() for name, value in part(arrays, "metrics").items()}
        for arrays in (two, one)
    )
    assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        *(
            (use, "call deeplens_tf.distribution.connect_replicas(model) after compile")
            for use in ("fit", "evaluate", "train_on_batch", "compiled again")
        ),
        ("jit_compile", "jit_compile must be left out in the scope of a strategy"),
        ("steps_per_execution", "Received: steps_per_execution=3"),
        ("gradient_accumulation_steps", "Received: gradient_accumulation_steps=2"),
        ("encoder outside", "kernel, created outside"),
        ("optimizer outside", "iteration, created outside"),
        ("no scope", "must be created and compiled in the scope of a strategy"),
    ],
)
def test_what_replicas_cannot_do_is_refused(folder, use, message):
    kind, found = json.loads((folder / "refusals.json").read_text())[use]
    assert kind == "ValueError"
    assert message in found


def test_a_batch_that_does_not_divide_among_the_replicas_ends_the_training(folder):
    kind, found = json.loads((folder / "refusals.json").read_text())["odd"]
    assert kind == "InvalidArgumentError"
    assert "batch_size must be a multiple of the 2 replicas" in found
