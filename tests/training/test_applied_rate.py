"""The learning rate of the last step, under every wrapper and kind of rate."""

import keras
import numpy as np
import pytest

from deeplens_tf.models import WarmUpSchedule
from deeplens_tf.models.probe_optimizer import SeparateProbe
from deeplens_tf.training.applied_rate import applied_learning_rate

optimizers = keras.optimizers
WRAPPERS = {
    "none": lambda optimizer: optimizer,
    "float16": optimizers.LossScaleOptimizer,
    "probe": lambda optimizer: SeparateProbe(optimizer, optimizers.Adam(0.5)),
    "probe and float16": lambda optimizer: optimizers.LossScaleOptimizer(
        SeparateProbe(optimizer, optimizers.Adam(0.5))
    ),
    "map": lambda optimizer: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizer, {"probe/.*": optimizers.Adam(0.5)})
    ),
}
RATES = {
    "own": (WarmUpSchedule(0.8, 4, 10), [0.2, 0.4, 0.6, 0.8, 0.8]),
    "keras": (optimizers.schedules.PiecewiseConstantDecay([1], [0.3, 0.1]), [0.3, 0.3, 0.1, 0.1]),
    "constant": (0.25, [0.25, 0.25]),
    "callable": (lambda: 0.125, [0.125, 0.125]),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize(("rate", "expected"), RATES.values(), ids=RATES)
def test_it_is_the_rate_by_which_the_last_step_moved(wrap, rate, expected):
    optimizer, weight = wrap(optimizers.SGD(rate)), keras.Variable(np.zeros(1, "float32"))
    assert applied_learning_rate(optimizer) == pytest.approx(expected[0])
    optimizer.build([weight])
    for each in expected:
        before = float(weight[0])
        optimizer.apply([optimizer.scale_loss(np.ones(1, "float32"))], [weight])
        assert before - float(weight[0]) == pytest.approx(each)
        assert applied_learning_rate(optimizer) == pytest.approx(each)


def test_a_rate_that_is_set_by_hand_is_found():
    optimizer = optimizers.SGD(0.25)
    optimizer.learning_rate = 0.5
    assert applied_learning_rate(optimizer) == 0.5


def test_a_skipped_step_does_not_count():
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(WarmUpSchedule(0.8, 4)))
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer.build([weight])
    optimizer.apply([np.array([np.inf], "float32")], [weight])
    assert float(weight[0]) == 0
    assert applied_learning_rate(optimizer) == pytest.approx(0.2)  # of the step to come
