"""The lenses of the benchmark: a star takes their contrast from min-max scaling alone."""

import numpy as np
import pytest

from benchmarks.scale_contrast import contrasts
from deeplens_tf.preprocessing.value_scale import ValueScale
from deeplens_tf.simulation.priors import CLASSES, draw_lens


@pytest.mark.parametrize("name", CLASSES)
def test_a_star_leaves_the_contrast_of_a_lens(name):
    lens = draw_lens("model_ii", name, np.random.default_rng(5))
    plain, starred, _, _ = contrasts(lens, ValueScale("percentile", stretch="asinh"), 100.0)
    assert starred >= 0.9 * plain > 0.5
    plain, starred, _, _ = contrasts(lens, ValueScale(), 100.0)
    assert starred < 0.02 * plain
