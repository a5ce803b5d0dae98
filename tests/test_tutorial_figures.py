"""Figures of the tutorials: the drawn numbers are the given ones."""

import numpy as np
import pytest
from tutorial_figures import (
    feature_maps,
    histograms,
    residual_rms_percent,
    scores_above_chance,
    similarity_figure,
    substructure_figure,
    vortex_figure,
)

from deeplens_tf.figures import save_figure


@pytest.fixture
def lenses():
    smooth = np.random.default_rng(0).random((2, 20, 20))
    images = smooth.copy()
    images[0, 3:6, 7:12] += 0.5
    return images, smooth


def test_residuals_are_in_per_cent_of_the_brightest_pixel_and_centred_on_zero(lenses, tmp_path):
    images, smooth = lenses
    figure = substructure_figure(images, smooth, ["lumpy", "smooth"], pixel_scale_arcsec=0.1)
    upper, lower = np.array(figure.axes[:4]).reshape(2, 2)
    assert [axes.get_title() for axes in upper] == ["lumpy", "smooth"]
    for axes, image, without in zip(lower, images, smooth, strict=True):
        (picture,) = axes.images
        expected = 100 * (image - without) / image.max()
        assert np.asarray(picture.get_array()) == pytest.approx(expected)
        assert picture.norm.vmin == -picture.norm.vmax
        assert picture.get_extent() == pytest.approx([-1, 1, -1, 1])
    assert lower[0].images[0].norm.vmax > 10 > lower[1].images[0].norm.vmax > 0
    save_figure(figure, tmp_path / "substructure.png")


def test_the_part_to_show_can_be_chosen(lenses):
    figure = substructure_figure(*lenses, ["a", "b"], 0.1, half_side_arcsec=0.5, title="Zoom")
    assert figure.get_suptitle() == "Zoom"
    for axes in figure.axes[:4]:
        assert axes.get_xlim() == axes.get_ylim() == (-0.5, 0.5)


def test_lengths_that_differ_are_refused(lenses):
    images, smooth = lenses
    with pytest.raises(ValueError, match="Received: 2, 1 and 2"):
        substructure_figure(images, smooth[:1], ["a", "b"], 0.1)
    with pytest.raises(ValueError, match="1 or more"):
        substructure_figure([], [], [], 0.1)


def test_the_residual_of_the_central_square_and_of_the_complete_image():
    smooth = np.zeros((8, 8))
    image = smooth.copy()
    image[2:6, 2:6] = 4.0
    image[3, 3] = 8.0  # one of the 16 central pixels is 8, the others are 4
    central = np.sqrt((15 * 16 + 64) / 16) / 8
    assert residual_rms_percent(image, smooth, side=4) == pytest.approx(100 * central)
    assert residual_rms_percent(image, smooth) == pytest.approx(50 * central)  # 3 of 4 are 0
    assert residual_rms_percent(image, image) == 0
    with pytest.raises(ValueError, match="from 1 to 8"):
        residual_rms_percent(image, smooth, side=9)
    with pytest.raises(ValueError, match=r"Received: \(8, 8\) and \(4, 8\)"):
        residual_rms_percent(image, smooth[:4])


def test_a_histogram_counts_every_value(tmp_path):
    values = np.random.default_rng(0).normal(size=200)
    figure = histograms({"x / m": values, "y / s": values**2}, bins=7)
    for axes, name in zip(figure.axes, ("x / m", "y / s"), strict=True):
        assert axes.get_xlabel() == name
        assert len(axes.patches) == 7
        assert sum(patch.get_height() for patch in axes.patches) == 200
    save_figure(figure, tmp_path / "histograms.png")


def test_the_vortex_is_drawn_with_its_marks(tmp_path):
    mass_ev = np.array([1e-24, 1e-23, 1e-22])
    figure = vortex_figure(mass_ev, 3e-24 / mass_ev, {"one pixel": 0.1})
    curve, mark = figure.axes[0].lines
    assert np.array(curve.get_xydata()) == pytest.approx(
        np.array([[1e-24, 3], [1e-23, 0.3], [1e-22, 0.03]])
    )
    assert list(mark.get_ydata()) == [0.1, 0.1]
    assert mark.get_label() == "one pixel, 0.10 arcsec"
    save_figure(figure, tmp_path / "vortex.png")


def test_matrices_share_one_scale_and_small_ones_show_their_numbers(tmp_path):
    matrices = {"small": np.array([[1.0, 0.25], [0.5, 0.75]]), "large": np.full((9, 9), -0.5)}
    figure = similarity_figure(matrices)
    small, large = figure.axes[:2]
    for axes, matrix in zip((small, large), matrices.values(), strict=True):
        (picture,) = axes.images
        assert np.asarray(picture.get_array()) == pytest.approx(matrix)
        assert (picture.norm.vmin, picture.norm.vmax) == (-0.5, 1.0)
    assert [text.get_text() for text in small.texts] == ["1.000", "0.250", "0.500", "0.750"]
    assert not large.texts
    save_figure(figure, tmp_path / "similarity.png")


def test_bars_begin_at_chance_and_end_at_the_score(tmp_path):
    scores = {"AUC": (0.5, {"untrained": 0.75, "trained": 0.9}), "R²": (0.0, {"untrained": -0.1})}
    figure = scores_above_chance(scores)
    for axes, (quantity, (chance, found)) in zip(figure.axes, scores.items(), strict=True):
        assert axes.get_ylabel() == quantity
        assert [bar.get_y() for bar in axes.patches] == [chance] * len(found)
        tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
        assert tops == pytest.approx(list(found.values()))
        assert [text.get_text() for text in axes.texts] == [f"{x:.3f}" for x in found.values()]
        assert axes.get_ylim()[0] <= min(chance, *found.values())
    save_figure(figure, tmp_path / "scores.png")


def test_maps_show_each_point_in_the_colour_of_its_quantity(tmp_path):
    places = {name: np.random.default_rng(k).normal(size=(6, 2)) for k, name in enumerate("ab")}
    radius, kinds = np.arange(6.0), np.array(["x", "y"] * 3)
    figure = feature_maps(places, {"radius": radius, "kind": kinds})
    numbers, names = np.array(figure.axes[:4]).reshape(2, 2)
    for axes, found in zip(numbers, places.values(), strict=True):
        (points,) = axes.collections
        assert np.asarray(points.get_offsets()) == pytest.approx(found)
        assert np.asarray(points.get_array()) == pytest.approx(radius)
    for axes, found in zip(names, places.values(), strict=True):
        assert [points.get_label() for points in axes.collections] == ["x", "y"]
        for points, kind in zip(axes.collections, "xy", strict=True):
            assert np.asarray(points.get_offsets()) == pytest.approx(found[kinds == kind])
    save_figure(figure, tmp_path / "maps.png")
