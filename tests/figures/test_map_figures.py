"""Figures of a map: every point once, gray without a value, and images that do not overlap."""

import numpy as np
import pytest

from deeplens_tf.figures.map_colors import NO_VALUE_COLOR, Classes, Scale
from deeplens_tf.figures.map_figures import (
    CELLS,
    Plane,
    map_figure,
    thumbnail_map,
    thumbnail_places,
)

POINTS = np.random.default_rng(0).normal(size=(60, 2))
PLANES = [Plane("PCA", POINTS, ("first", "second")), Plane("UMAP", -POINTS, ("a", "b"))]
CODES = np.arange(60) % 3 - 1  # a third without a class


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_each_panel_has_every_point_once_and_the_legend_counts_them():
    figure = map_figure(PLANES, Classes("class", ("$x$", "b"), CODES), "Sample")
    assert legend_of(figure) == ["$x$ (20)", "b (20)", "no value (20)"]
    for axes, plane in zip(figure.axes, PLANES, strict=True):
        (points,) = axes.collections
        drawn = np.asarray(points.get_offsets())
        np.testing.assert_allclose(
            drawn[np.lexsort(drawn.T)], plane.coordinates[np.lexsort(plane.coordinates.T)]
        )
        # The gray ones come first, below the others.
        first = {tuple(point) for point in drawn[:20]}
        assert first == {tuple(point) for point in plane.coordinates[CODES < 0]}
        assert (axes.get_title(), axes.get_xlabel()) == (plane.title, plane.axes[0])


@pytest.mark.parametrize(("logarithmic", "label"), [(False, "z"), (True, "z (logarithmic scale)")])
def test_a_scale_has_a_bar(tmp_path, logarithmic, label):
    values = np.where(CODES < 0, np.nan, np.arange(1, 61))
    figure = map_figure(PLANES[:1], Scale("z", values, logarithmic), "Sample")
    assert figure.axes[-1].get_ylabel() == label
    assert legend_of(figure) == ["no value (20)"]
    one = map_figure(PLANES[:1], Scale("z", np.ones(60), logarithmic), "Sample")
    one.savefig(tmp_path / "one.png")  # a scale of one number can be drawn
    assert one.legends == []


def test_the_image_in_a_cell_is_the_one_nearest_to_its_center():
    shown = np.arange(60) % 5 > 0
    found = thumbnail_places(POINTS, shown, cells=4)
    low, high = POINTS.min(axis=0), POINTS.max(axis=0)
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    nearest = {}
    for point in np.flatnonzero(shown):
        x, y = (POINTS[point] - low) / (high - low) * 4
        cell = (int(y), int(x))
        distance = (x - cell[1] - 0.5) ** 2 + (y - cell[0] - 0.5) ** 2
        if cell not in nearest or distance < nearest[cell][0]:
            nearest[cell] = (distance, point)
    expected = {cell: point for cell, (_, point) in nearest.items()}
    assert {(place.row, place.column): place.point for place in found} == expected


def test_images_are_at_their_places_with_frames_in_the_color_of_the_class():
    points = np.array([[0, 0], [1, 1], [2, 0]], float)
    thumbnails = np.zeros((3, 8, 8, 3), np.uint8)
    thumbnails[:, 3:5, 3:5] = np.arange(1, 4)[:, None, None, None] * 50
    coloring = Classes("class", ("a",), np.array([0, 0, -1]))
    plane = Plane("PCA", points, ("x", "y"))
    shown = np.array([True, False, True])
    figure = thumbnail_map([plane], thumbnails, shown, coloring, "Sample")
    (picture,) = figure.axes[0].images
    cells = np.asarray(picture.get_array()).reshape(CELLS, 8, CELLS, 8, 4).swapaxes(1, 2)
    assert sorted(zip(*np.nonzero(cells[:, :, 0, 0, 3]), strict=True)) == [
        (CELLS - 1, 0),
        (CELLS - 1, CELLS - 1),
    ]
    assert (cells[-1, 0, 4, 4, 0], cells[-1, -1, 4, 4, 0]) == (50, 150)
    gray = [int(NO_VALUE_COLOR[i : i + 2], 16) for i in (1, 3, 5)]
    assert cells[-1, -1, 0, 0, :3].tolist() == gray != cells[-1, 0, 0, 0, :3].tolist()
    flat = np.array([[1.0, 5.0], [2.0, 5.0]])
    assert [p.row for p in thumbnail_places(flat, np.ones(2, bool), 4)] == [2, 2]
