"""The picture of explanations: what is drawn on which scale."""

import numpy as np
import pytest

from deeplens_tf.figures.explanation_figures import explanation_grid

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((2, 8, 6, 1))


def panels(figure):
    """The drawn arrays of each panel but the colour bars, row by row."""
    return [axes.images for axes in figure.axes if axes.images]


@pytest.mark.parametrize("bands", [1, 3])
def test_a_row_is_the_image_the_map_and_both(bands, tmp_path):
    images = GENERATOR.random((2, 8, 6, bands))
    maps = GENERATOR.random((2, 8, 6))
    figure = explanation_grid(images, maps, ["a", "b"], "share", "Title")
    drawn = panels(figure)
    assert [len(each) for each in drawn] == [1, 1, 2] * 2
    for row in range(2):
        np.testing.assert_array_equal(drawn[3 * row + 1][0].get_array(), maps[row])
        np.testing.assert_array_equal(drawn[3 * row + 2][1].get_array(), maps[row])
        assert drawn[3 * row + 1][0].get_clim() == (0, maps[row].max())  # not from its minimum
    assert [axes.get_ylabel() for axes in figure.axes[:6:3]] == ["a", "b"]
    assert (figure.get_suptitle(), figure.get_supxlabel()) == ("Title", "share")


def test_a_signed_map_is_centred_at_zero():
    maps = np.zeros((2, 8, 6))
    maps[0, 0, 0], maps[1, 1, 1] = -3, 2
    drawn = panels(explanation_grid(IMAGES, maps, ["a", "b"], "shift"))
    assert [drawn[k][0].get_clim() for k in (1, 4)] == [(-3, 3), (-2, 2)]


@pytest.mark.parametrize(
    ("images", "maps", "names"),
    [
        (IMAGES, np.ones((2, 8, 5)), "ab"),
        (IMAGES, np.ones((2, 8, 6)), "a"),
        (IMAGES[:0], np.ones((0, 8, 6)), ""),
    ],
)
def test_what_does_not_fit_is_refused(images, maps, names):
    with pytest.raises(ValueError, match="images, maps and names must be as many"):
        explanation_grid(images, maps, names, "share")
