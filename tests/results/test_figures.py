"""The figures of the study show what is stored."""

import numpy as np
import pandas as pd
import pytest

from results import figures, store, tables


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_of_the_repository_can_be_drawn(name, tmp_path):
    figure = figures.FIGURES[name]()
    figure.savefig(tmp_path / "figure.png")
    assert all(axes.lines or axes.collections or axes.images for axes in figure.axes)


def test_curves_have_the_areas_of_the_table():
    table = pd.read_csv(tables.HERE / "clean.csv")
    panel = figures.label_efficiency().axes[0]
    curves = {line.get_label(): line for line in panel.lines}
    for row in ("object", store.UNTRAINED):
        values = [
            table["value"][(table["row"] == row) & (table["readout"] == f"probe, {labels}")].mean()
            for labels in ("1 %", "10 %", "all")
        ]
        curve = curves[figures.ROWS[row][0]]
        np.testing.assert_allclose(curve.get_ydata(), values, atol=6e-5)
        np.testing.assert_allclose(curve.get_xdata(), [81, 810, 8100])
