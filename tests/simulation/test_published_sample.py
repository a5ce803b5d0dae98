"""The simulator must reproduce published images from their source position only.

The sample is not part of the repository: set DEEPLENS_SAMPLE to a folder that contains some of
the published `Model_II/<class>/*.npy`.
"""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from deeplens_tf.simulation import render
from deeplens_tf.simulation.priors import Lens, draw_lens, vortex, without_substructure

SAMPLE = Path(os.environ.get("DEEPLENS_SAMPLE", "")) / "Model_II"
pytestmark = pytest.mark.skipif(
    "DEEPLENS_SAMPLE" not in os.environ,
    reason="DEEPLENS_SAMPLE doesn't name a folder with published images in Model_II",
)

TOLERANCE = 1e-6
TIGHT = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
GRID = [(x, y) for x in np.linspace(-0.35, 0.35, 9) for y in np.linspace(-0.35, 0.35, 9)]
ANGLES_RAD = np.linspace(0, np.pi, 36, endpoint=False)


def sample_files(class_name):
    return sorted((SAMPLE / class_name).glob("*.npy"))


def smooth_lens(x, y):
    return Lens("model_ii", "no_sub", source_x_arcsec=x, source_y_arcsec=y)


@cache
def grid_images():
    return [render.render_image(smooth_lens(x, y)) for x, y in GRID]


def residual(lens, image):
    return (render.render_image(lens) - image).ravel() / image.max()


def fit_smooth(image, starts=3):
    """Fit the source position, starting from the best points of a grid."""
    costs = [np.square(image - other).sum() for other in grid_images()]
    best = [GRID[i] for i in np.argsort(costs)[:starts]]
    fits = [least_squares(lambda p: residual(smooth_lens(*p), image), p, **TIGHT) for p in best]
    return min(fits, key=lambda fit: fit.cost)


def fit_vortex(image, axion_mass_ev):
    """Fit source position and vortex angle, starting from the best angles of a grid."""
    x, y = fit_smooth(image).x

    def difference(p):
        return residual(
            replace(smooth_lens(p[0], p[1]), substructure=vortex(axion_mass_ev, p[2])), image
        )

    costs = [np.square(difference((x, y, angle))).sum() for angle in ANGLES_RAD]
    best = [(x, y, ANGLES_RAD[i]) for i in np.argsort(costs)[:3]]
    fits = [least_squares(difference, start, **TIGHT) for start in best]
    return min(fits, key=lambda fit: fit.cost)


def rms_of_smooth_fit(image):
    return np.sqrt(np.mean(np.square(fit_smooth(image, starts=1).fun)))


def load_axion(path):
    # Pickled by the authors of the data; no other file is unpickled without checks.
    image, axion_mass_ev = np.load(path, allow_pickle=True)
    return np.asarray(image, dtype=float), float(axion_mass_ev)


@pytest.mark.parametrize("number", range(6))
def test_smooth_images_are_reproduced(number):
    image = np.load(sample_files("no_sub")[number])
    assert np.abs(fit_smooth(image).fun).max() < TOLERANCE


@pytest.mark.parametrize("number", range(4))
def test_vortex_images_are_reproduced(number):
    image, axion_mass_ev = load_axion(sample_files("axion")[number])
    assert np.abs(fit_vortex(image, axion_mass_ev).fun).max() < TOLERANCE


@pytest.mark.slow
def test_subhalos_leave_residuals_like_the_published_ones():
    published = [np.load(path) for path in sample_files("cdm")]
    rng = np.random.default_rng(0)
    simulated = [render.render_image(draw_lens("model_ii", "cdm", rng)) for _ in range(120)]
    left_published, left_simulated = (
        np.median([rms_of_smooth_fit(image) for image in images])
        for images in (published, simulated)
    )
    assert left_published == pytest.approx(7.4e-3, rel=0.02)
    assert left_simulated == pytest.approx(left_published, rel=0.4)


def change_nothing(monkeypatch):
    pass


def change_the_psf(monkeypatch):
    monkeypatch.setitem(render.BANDS["model_ii"], "seeing", 0.161)


def change_the_scale(monkeypatch):
    monkeypatch.setattr(render, "deflection_scale", lambda preset: 0.6345)


def change_the_magnitude(monkeypatch):
    monkeypatch.setattr(render, "SOURCE_MAGNITUDE", 20.001)


def change_the_pixel(monkeypatch):
    monkeypatch.setitem(render.BANDS["model_ii"], "pixel_scale", 0.1)


@pytest.fixture
def fresh_instruments():
    caches = (render.pixel_positions, render.smooth_on_grid, grid_images)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.usefixtures("fresh_instruments")
@pytest.mark.parametrize(
    ("change", "is_right"),
    [
        (change_nothing, True),
        (change_the_psf, False),
        (change_the_scale, False),
        (change_the_magnitude, False),
        (change_the_pixel, False),
    ],
)
def test_a_slightly_wrong_simulator_is_detected(change, is_right, monkeypatch):
    change(monkeypatch)
    image = np.load(sample_files("no_sub")[0])
    assert (np.abs(fit_smooth(image).fun).max() < TOLERANCE) == is_right


def test_smooth_fit_of_a_simulated_image_finds_its_source():
    lens = without_substructure(draw_lens("model_ii", "cdm", np.random.default_rng(7)))
    found = fit_smooth(render.render_image(lens)).x
    assert found == pytest.approx([lens.source_x_arcsec, lens.source_y_arcsec], abs=1e-9)
