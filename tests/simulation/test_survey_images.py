"""The survey's pixels against lenstronomy used by hand, closed forms and a detector's noise."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.SimulationAPI.ObservationConfig.DES import DES
from scipy.special import gamma, gammainc
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.survey_bands import SURVEY_BANDS
from deeplens_tf.simulation.survey_images import render_scene
from deeplens_tf.simulation.survey_scenes import Deflector, Scene, SersicLight, draw_scene

SCALE = 0.263
# A galaxy too faint to be seen, where a scene needs one.
DARK = SersicLight(dict.fromkeys(SURVEY_BANDS, 60.0), 1.0, 1.0, 0.0, 0.0)


def scene(class_name, seed=0):
    return draw_scene(class_name, np.random.default_rng(seed))


def empty_scene(**changes):
    return replace(Scene("nonlens", 0.0, 0.0, (DARK,), (), noise_seed=0), **changes)


def flux(band, magnitude):
    return 10.0 ** (0.4 * (SURVEY_BANDS[band]["magnitude_zero_point"] - magnitude))


def distances():
    axis = (np.arange(64) - 31.5) * SCALE
    return np.hypot(axis[np.newaxis], axis[:, np.newaxis])


def mean_square_radius(image):
    return np.sum(image * distances() ** 2) / image.sum()


def sersic_flux_of_unit_amplitude(radius, index):
    b = 1.9992 * index - 0.3271  # lenstronomy's approximation
    return 2 * np.pi * index * radius**2 * np.exp(b) * b ** (-2 * index) * gamma(2 * index)


def profiles(lights, band):
    return [
        {
            **{"R_sersic": each.radius_arcsec, "n_sersic": each.index, "e1": each.e1},
            **{"e2": each.e2, "center_x": each.x_arcsec, "center_y": each.y_arcsec},
            "amp": flux(band, each.magnitudes[band])
            / sersic_flux_of_unit_amplitude(each.radius_arcsec, each.index),
        }
        for each in lights
    ]


def image_by_hand(scene_, band):
    """The noiseless image, from lenstronomy's parts without its simulation interface."""
    corner = -31.5 * SCALE
    data = ImageData(
        np.zeros((64, 64)),
        **{"transform_pix2angle": np.eye(2) * SCALE, "ra_at_xy_0": corner, "dec_at_xy_0": corner},
    )
    psf = PSF("GAUSSIAN", fwhm=SURVEY_BANDS[band]["seeing"], pixel_size=SCALE, truncation=5)
    lights, sources = (*scene_.galaxy, *scene_.others), (scene_.source,) * bool(scene_.source)
    drawing = ImageModel(
        *(data, psf, LensModel(["SIE", "SHEAR"])),
        LightModel(["SERSIC_ELLIPSE"] * len(sources)),
        LightModel(["SERSIC_ELLIPSE"] * len(lights)),
        kwargs_numerics={"supersampling_factor": 3},
    )
    image = drawing.image(kwargs_lens_light=profiles(lights, band), source_add=False)
    if scene_.source is None:
        return image
    mass = scene_.deflector
    lens = [
        {"theta_E": mass.theta_e_arcsec, "e1": mass.e1, "e2": mass.e2},
        {"gamma1": mass.shear_gamma1, "gamma2": mass.shear_gamma2},
    ]
    lens[0] |= {"center_x": 0.0, "center_y": 0.0}
    arcs = drawing.image(lens, profiles(sources, band), lens_light_add=False)
    return image + arcs * flux(band, scene_.source.magnitudes[band]) / arcs.sum()


@pytest.mark.parametrize("band", SURVEY_BANDS)
def test_the_bands_are_lenstronomys(band):
    assert SURVEY_BANDS[band] == DES(band=band).kwargs_single_band()


@pytest.mark.parametrize("class_name", ["lens", "nonlens"])
def test_pixels_are_those_of_lenstronomy_used_by_hand(class_name):
    for seed in range(3):
        image = render_scene(scene(class_name, seed), tuple(SURVEY_BANDS), noise=False)
        expected = np.stack([image_by_hand(scene(class_name, seed), band) for band in SURVEY_BANDS])
        assert image.shape == (5, 64, 64)
        assert np.abs(image - expected).max() < 1e-9 * expected.max()


def fraction_in_the_image(index, radius):
    """Of a round Sersic profile: the mean over directions of the flux up to the image's edge."""
    angles = np.linspace(0.0, np.pi / 4, 1001)
    edge = 32 * SCALE / np.cos(angles)
    return gammainc(2 * index, (1.9992 * index - 0.3271) * (edge / radius) ** (1 / index)).mean()


@pytest.mark.parametrize(
    ("index", "radius", "tolerance"),
    [(1, 0.2, 0.01), (1, 2.4, 1e-3), (4, 0.6, 0.025), (4, 1.2, 0.01)],
)
def test_the_flux_of_a_galaxy_is_its_magnitude(index, radius, tolerance):
    magnitudes = {"g": 20.0, "r": 19.1, "i": 18.7}
    light = SersicLight(magnitudes, radius, index, 0.0, 0.0)
    image = render_scene(empty_scene(galaxy=(light,)), noise=False)
    expected = [flux(band, magnitude) for band, magnitude in magnitudes.items()]
    expected = np.multiply(expected, fraction_in_the_image(index, radius))
    assert image.sum(axis=(1, 2)) == pytest.approx(expected, rel=tolerance)


def test_the_flux_of_all_images_of_a_source_is_its_magnitude():
    lens = replace(scene("lens"), galaxy=(DARK,), others=())
    fluxes = render_scene(lens, noise=False).sum(axis=(1, 2))
    expected = [flux(band, lens.source.magnitudes[band]) for band in "gri"]
    assert fluxes == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("theta_e", [1.2, 1.7, 2.4])
@pytest.mark.parametrize("band", ["g", "i"])
def test_the_ring_of_a_source_on_the_axis_has_the_einstein_radius(theta_e, band):
    source = replace(DARK, magnitudes=dict.fromkeys(SURVEY_BANDS, 20.0), radius_arcsec=0.1)
    ring = empty_scene(deflector=Deflector(theta_e, 0.0, 0.0, 0.0, 0.0), source=source)
    image = render_scene(ring, (band,), noise=False)[0]
    # An isothermal sphere images a point at distance s from the axis with a mean square radius of
    # theta_E^2 + 3 s^2, and magnifies it by 2 theta_E / s. With this weight the mean of s^2 over an
    # exponential disc of scale h is 2 h^2.
    scale_arcsec = 0.1 / (1.9992 - 0.3271)
    sigma_arcsec = SURVEY_BANDS[band]["seeing"] / 2.3548200450309493
    squared = mean_square_radius(image) - 6.0 * scale_arcsec**2 - 2.0 * sigma_arcsec**2
    assert np.sqrt(squared) == pytest.approx(theta_e, rel=0.01)


@pytest.mark.parametrize("band", SURVEY_BANDS)
def test_a_point_has_the_width_of_the_bands_psf(band):
    point = replace(DARK, magnitudes=dict.fromkeys(SURVEY_BANDS, 18.0), radius_arcsec=0.02)
    image = render_scene(empty_scene(galaxy=(point,)), (band,), noise=False)[0]
    # The point is where four pixels meet, and its light counts as that of their centres.
    variance = (mean_square_radius(image) - SCALE**2 / 2.0) / 2.0
    assert 2.3548 * np.sqrt(variance) == pytest.approx(SURVEY_BANDS[band]["seeing"], rel=0.02)


def test_bands_are_no_copies_of_each_other():
    for class_name in ("lens", "nonlens"):
        for seed in range(10):
            bands = render_scene(scene(class_name, seed), noise=False).reshape(3, -1)
            assert np.corrcoef(bands)[np.triu_indices(3, 1)].max() < 0.9999
            for (one, first), (_, second) in permutations(zip("gri", bands, strict=True), 2):
                multiple = second * (first @ second) / (second @ second)
                assert np.abs(first - multiple).max() > 5 * expected_background(one)


def expected_background(band):
    """Of sky and read-out, in electrons per second and pixel."""
    settings = SURVEY_BANDS[band]
    seconds = settings["exposure_time"] * settings["num_exposures"]
    sky_electrons = flux(band, settings["sky_brightness"]) * SCALE**2 * seconds
    return np.sqrt(sky_electrons + settings["num_exposures"] * 7.0**2) / seconds


@pytest.mark.parametrize("band", SURVEY_BANDS)
def test_noise_is_that_of_sky_read_out_and_photons(band):
    seconds = SURVEY_BANDS[band]["exposure_time"] * 10
    scenes = [scene("lens", seed) for seed in range(5)]
    model, image = (
        np.stack([render_scene(each, (band,), noise)[0] for each in scenes])
        for noise in (False, True)
    )
    variance = expected_background(band) ** 2 + model / seconds
    scaled = (image - model) / np.sqrt(variance)
    bright = model > np.quantile(model, 0.95)
    for part in (np.ones_like(bright), bright):
        count = part.sum()
        assert np.mean(scaled[part] ** 2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / count))
        assert abs(scaled[part].mean()) < 4 / np.sqrt(count)
    # The photons of the galaxy are not lost in the noise of the sky.
    if band == "g":
        assert (variance[bright] / expected_background(band) ** 2).mean() > 1.4


def test_noise_of_a_band_does_not_depend_on_the_others():
    lens = scene("lens")
    assert np.array_equal(render_scene(lens, ("i",))[0], render_scene(lens, ("g", "i", "r"))[1])


def test_noise_of_bands_and_scenes_is_independent():
    noise = [
        (render_scene(each) - render_scene(each, noise=False)).reshape(3, -1)
        for each in (scene("lens", 0), scene("lens", 1))
    ]
    correlations = np.corrcoef(np.concatenate(noise))[np.triu_indices(6, 1)]
    assert np.abs(correlations).max() < 5 / 64


def test_numpys_global_state_is_neither_read_nor_changed():
    images, states = [], []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        images.append(render_scene(scene("lens")))
        states.append(np.random.random())  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        assert states[-1] == np.random.random()  # noqa: NPY002
    assert np.array_equal(*images)


def auc_of_total_flux(scenes, labels):
    """Of a linear classifier that sees the total flux in three bands, cross-validated."""
    fluxes = np.log([render_scene(each).sum(axis=(1, 2)) for each in scenes])
    classifier = LogisticRegression(C=1e3)
    scores = cross_val_predict(classifier, fluxes, labels, cv=10, method="predict_proba")
    return roc_auc_score(labels, scores[:, 1])


@pytest.mark.slow
def test_total_flux_does_not_tell_the_classes_apart():
    count = 300
    request = SimulationRequest("sersic_survey", count, Path("sim"))
    lenses, others = ([request.scene(name, i) for i in range(count)] for name in request.classes)
    labels = np.repeat([1, 0], count)
    # Under the null hypothesis the AUC of two samples of n has the variance (2 n + 1) / (12 n^2).
    error = np.sqrt((2 * count + 1) / (12 * count**2))
    assert auc_of_total_flux([*lenses, *others], labels) == pytest.approx(0.5, abs=2 * error)
    # Galaxies without any blue light would be told apart.
    bare = [replace(each, others=()) for each in others]
    assert auc_of_total_flux([*lenses, *bare], labels) > 0.5 + 5 * error
