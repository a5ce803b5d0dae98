"""Grids of images: every image once, on the scale that the caption names."""

import numpy as np
import pytest

from deeplens_tf.figures import IMAGE_COLOURS, image_grid, save_figure, views_grid


def shown(axes):
    (picture,) = axes.images
    return picture


def test_each_image_is_shown_once_in_order_on_its_own_scale(tmp_path):
    images = np.random.default_rng(0).normal(3, 2, (7, 16, 16))
    figure = image_grid(images, [f"image {k}" for k in range(7)], columns=3, title="Sample")
    assert [axes.get_title() for axes in figure.axes] == [f"image {k}" for k in range(7)]
    for axes, image in zip(figure.axes, images, strict=True):
        expected = (image - image.min()) / np.ptp(image)
        assert np.asarray(shown(axes).get_array()) == pytest.approx(expected)
        assert shown(axes).get_cmap().name == IMAGE_COLOURS
    assert figure.get_suptitle() == "Sample"
    assert "16 by 16 pixels" in figure.get_supxlabel()
    save_figure(figure, tmp_path / "grid.png")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 8), (8, 8)), ((8, 8, 1), (8, 8)), ((8, 8, 3), (8, 8, 3)), ((8, 8, 5), (8, 8))],
)
def test_three_different_bands_are_a_colour_image_and_others_their_mean(shape, expected):
    image = np.random.default_rng(0).random(shape)
    assert shown(image_grid([image]).axes[0]).get_array().shape == expected


def test_a_grey_image_repeated_to_three_bands_is_shown_in_the_colour_map():
    grey = np.random.default_rng(0).random((8, 8, 1))
    picture = shown(image_grid([np.repeat(grey, 3, axis=-1)]).axes[0])
    assert picture.get_array().shape == (8, 8)


def test_sizes_may_differ_and_a_constant_image_is_black():
    figure = image_grid([np.full((8, 8), 5.0), np.eye(12)])
    assert np.asarray(shown(figure.axes[0]).get_array()).max() == 0
    assert "several sizes" in figure.get_supxlabel()


def test_views_are_shown_next_to_their_image_on_its_scale(tmp_path):
    images = np.random.default_rng(0).random((2, 8, 8, 1))
    figure = views_grid(images, images * 0.5, images[:, ::-1])
    panels = np.array(figure.axes).reshape(2, 3)
    assert [axes.get_title() for axes in panels[0]] == ["image", "view 1", "view 2"]
    for row, image in zip(panels, images[..., 0], strict=True):
        low, spread = image.min(), np.ptp(image)
        for axes, view in zip(row, (image, image * 0.5, image[::-1]), strict=True):
            expected = np.clip((view - low) / spread, 0, 1)
            assert np.asarray(shown(axes).get_array()) == pytest.approx(expected)
    save_figure(figure, tmp_path / "views.png")


def test_the_first_row_of_an_image_is_at_the_bottom_of_every_grid():
    images = np.zeros((2, 8, 8))
    images[:, 0, 0] = 1
    for figure in (image_grid(images), views_grid(images, images, images)):
        for axes in figure.axes:
            assert shown(axes).origin == "lower"
            assert axes.get_ylim() == (-0.5, 7.5)


def test_rows_of_views_can_be_named():
    images = np.random.default_rng(0).random((2, 8, 8))
    panels = np.array(views_grid(images, images, images, names=["cdm", "no_sub"]).axes)
    labels = [axes.get_ylabel() for axes in panels]
    assert labels == ["cdm", "", "", "no_sub", "", ""]
    with pytest.raises(ValueError, match="names must hold one for each of 2 rows"):
        views_grid(images, images, images, names=["cdm"])


def bar_pixels(axes):
    """The length of the bar in a panel, in its pixels; 0 without a bar."""
    return sum(float(np.ptp(line.get_xdata())) for line in axes.lines)


def test_the_bar_is_one_arcsec_long():
    images = np.random.default_rng(0).random((3, 32, 32))
    one = image_grid(images, pixel_scale_arcsec=0.1)
    assert [bar_pixels(axes) for axes in one.axes] == pytest.approx([10, 0, 0])
    assert one.axes[0].texts[0].get_text() == "1 arcsec"
    each = image_grid(images, pixel_scale_arcsec=[0.1, 0.1, 0.2])
    assert [bar_pixels(axes) for axes in each.axes] == pytest.approx([10, 10, 5])
    views = views_grid(images, images, images, pixel_scale_arcsec=0.05)
    assert [bar_pixels(axes) for axes in views.axes] == pytest.approx([20] + 8 * [0])
    assert not image_grid(images).axes[0].lines
    for axes in each.axes:  # the bar does not move the picture
        assert axes.get_xlim() == (-0.5, 31.5)
    with pytest.raises(ValueError, match="Received: 2 for 3 images"):
        image_grid(images, pixel_scale_arcsec=[0.1, 0.2])


def test_wrong_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        image_grid([])
    with pytest.raises(ValueError, match="1 images"):
        image_grid([np.eye(4)], ["a", "b"])
    with pytest.raises(ValueError, match="one shape"):
        views_grid(np.zeros((2, 4, 4)), np.zeros((2, 4, 4)), np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="one shape"):
        views_grid(*[np.zeros((0, 4, 4))] * 3)
