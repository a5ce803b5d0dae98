"""Views of simulated lenses against the same lenses rendered rotated."""

import numpy as np
import pytest

from benchmarks.rotation_error import MARGIN, errors, lenses_of, render_turned
from deeplens_tf.simulation.priors import CLASSES
from deeplens_tf.simulation.render import render_model

ANGLES = np.deg2rad([10.0, 45.0, 70.0, 135.0])
# Of |view - rendered| / maximum: median, 99th percentile, fraction of pixels above 1 %. Measured:
# bilinear 0.0008, 0.033, 0.070; bicubic 0.0001, 0.015, 0.017. docs/views.md has the table.
BOUNDS = {"bilinear": (0.0012, 0.045, 0.09), "bicubic": (0.0002, 0.02, 0.025)}


@pytest.fixture(scope="module")
def lenses():
    return lenses_of(3)


def test_a_lens_that_is_not_turned_is_the_packages(lenses):
    for lens in lenses:
        np.testing.assert_array_equal(render_turned(lens, 0.0), render_model(lens))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_lens_turned_by_right_angles_is_numpys_rot90(lenses, turns):
    for lens in lenses[:: len(lenses) // len(CLASSES)]:
        turned, expected = (
            render_turned(lens, turns * np.pi / 2),
            np.rot90(render_model(lens), turns),
        )
        np.testing.assert_allclose(turned, expected, atol=1e-6 * expected.max())


def statistics(found):
    return np.median(found), np.percentile(found, 99), (found > 0.01).mean()


@pytest.mark.parametrize("interpolation", BOUNDS)
def test_a_view_is_the_rotated_lens_up_to_the_interpolation(lenses, interpolation):
    found = statistics(errors(lenses, ANGLES, interpolation, MARGIN))
    assert (np.array(found) < BOUNDS[interpolation]).all(), found


@pytest.mark.parametrize("interpolation", BOUNDS)
def test_a_view_of_the_crop_alone_is_not(lenses, interpolation):
    _, high, above = statistics(errors(lenses, ANGLES, interpolation, margin=0))
    assert high > 2 * BOUNDS[interpolation][1]
    assert above > BOUNDS[interpolation][2]
