"""What TensorFlow cannot go on for is said as what it is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from deeplens_tf.errors import ResourceError
from deeplens_tf.training.fitting import _outside_faults


def test_memory_that_does_not_suffice_is_a_refusal_of_the_surroundings():
    """A stand-in for a graphics card that is too small: TensorFlow's own error for it."""
    run = SimpleNamespace(tensorboard=Path("run/tensorboard"))
    too_small = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with (
        pytest.raises(ResourceError, match=r"not have enough memory .* smaller train\.batch"),
        _outside_faults(SimpleNamespace(), run),
    ):
        raise too_small
