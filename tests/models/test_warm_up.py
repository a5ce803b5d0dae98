"""The schedule against its closed form, and its file."""

import keras
import numpy as np
import pytest

from deeplens_tf.models import WarmUpSchedule


def closed_form(step, peak, warmup, decay):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + np.cos(np.pi * min((step - warmup) / decay, 1))) / 2 if decay else peak


@pytest.mark.parametrize("decay", [None, 1, 60])
@pytest.mark.parametrize("warmup", [0, 1, 40])
def test_every_step_has_the_rate_of_the_closed_form(warmup, decay):
    steps = range(120)
    schedule = WarmUpSchedule(0.3, warmup, decay)
    expected = [closed_form(step, 0.3, warmup, decay) for step in steps]
    found = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_after_the_warm_up_it_is_kerass_cosine_bit_for_bit():
    """Runs of earlier versions, which used it, resume in the middle of the cosine."""
    schedule = WarmUpSchedule(1e-3, 63, 630)
    kerass = keras.optimizers.schedules.CosineDecay(0.0, 630, warmup_target=1e-3, warmup_steps=63)
    for step in range(63, 800):
        assert float(schedule(step)) == float(kerass(step))


def test_it_is_restored_from_the_configuration_of_an_optimizer():
    optimizer = keras.optimizers.Adam(WarmUpSchedule(0.3, 4, 7))
    config = keras.saving.serialize_keras_object(optimizer)
    restored = keras.saving.deserialize_keras_object(config)
    assert isinstance(restored._learning_rate, WarmUpSchedule)
    assert restored._learning_rate.get_config() == {
        "peak": 0.3,
        "warmup_steps": 4,
        "decay_steps": 7,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(peak=0.0), r"peak must be above 0\. Received: peak=0\.0"),
        (dict(peak=1.0, warmup_steps=-1), r"warmup_steps must be at least 0.*warmup_steps=-1"),
        (dict(peak=1.0, decay_steps=0), r"decay_steps must be at least 1 or None.*decay_steps=0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmUpSchedule(**arguments)
