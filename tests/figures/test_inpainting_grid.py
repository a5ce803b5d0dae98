"""The figure of an inpainting run: three columns on the scale of the original."""

import numpy as np
import pytest

from deeplens_tf.figures import inpainting_grid


def test_original_masked_and_inpainted_are_side_by_side_on_one_scale():
    images = np.random.default_rng(0).random((2, 8, 8, 1))
    masked, inpainted = images * (images > 0.5), images + 0.1
    figure = inpainting_grid(images, masked, inpainted)
    panels = np.array(figure.axes).reshape(2, 3)
    assert [axes.get_title() for axes in panels[0]] == ["original", "masked", "inpainted"]
    for row, stack in zip(panels, zip(images, masked, inpainted, strict=True), strict=True):
        low, spread = stack[0].min(), np.ptp(stack[0])
        for axes, picture in zip(row, stack, strict=True):
            expected = np.clip((picture[..., 0] - low) / spread, 0, 1)
            assert np.asarray(axes.images[0].get_array()) == pytest.approx(expected)


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="original, masked, inpainted must have one shape"):
        inpainting_grid(np.zeros((2, 4, 4)), np.zeros((2, 4, 4)), np.zeros((1, 4, 4)))
