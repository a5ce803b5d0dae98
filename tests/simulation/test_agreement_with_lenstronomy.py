"""Images, drawn through plain lenstronomy and by this package, are the same up to rounding."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from astropy import constants, units
from astropy.cosmology import FlatLambdaCDM
from lenstronomy.SimulationAPI.ObservationConfig.Euclid import Euclid
from lenstronomy.SimulationAPI.ObservationConfig.HST import HST
from lenstronomy.SimulationAPI.sim_api import SimAPI

from deeplens_tf.simulation import render
from deeplens_tf.simulation.priors import CLASSES, PRESETS, draw_lens
from deeplens_tf.simulation.skies import Sky
from deeplens_tf.simulation.wide_priors import with_wide_halo, with_wide_source

# Of the brightest pixel; rounding alone is about 1e-15.
TOLERANCE = 1e-12
# A steep source magnifies the rounding of the deflections.
STEEP_TOLERANCE = 1e-10
MODEL_I = {
    **{"pixel_scale": 0.05, "seeing": 0.087, "truncation": 3, "psf_type": "GAUSSIAN"},
    # Required, but of no influence here.
    **{"background_noise": 1e-2, "exposure_time": 1.0, "magnitude_zero_point": 0.0},
}
OTHER_HALO = {
    **{"halo_mass_solar": 7e11, "halo_e1": -0.05, "halo_e2": 0.13},
    **{"shear_gamma1": -0.02, "shear_gamma2": 0.04},
}
ROUND_HALO = {"halo_e1": 0.0, "shear_gamma1": 0.0}
OTHER_SOURCE = {
    **{"source_x_arcsec": -0.31, "source_y_arcsec": 0.22, "source_radius_arcsec": 0.17},
    **{"source_index": 0.7, "source_e1": 0.21, "source_e2": 0.33},
}
OTHER_SKY = {"psf_scale": 1.3, "offset_x_pixels": -1.7, "offset_y_pixels": 3.1}


def band_of(preset):
    if preset == "model_i":
        return MODEL_I
    if preset == "model_ii":
        return Euclid(band="VIS", psf_type="GAUSSIAN", coadd_years=6).kwargs_single_band()
    hubble = HST(band="WFC3_F160W", psf_type="GAUSSIAN").kwargs_single_band()
    return hubble | {"seeing": 0.15}


@cache
def theta_e_of_one_solar_mass():
    cosmology = FlatLambdaCDM(H0=70.0, Om0=0.3, Ob0=0.05)
    lens, source = (cosmology.luminosity_distance(z) for z in (0.5, 1.0))
    length = 4.0 * constants.G * constants.M_sun / constants.c**2
    squared_rad = length * (source - lens) / (lens * source)
    return np.sqrt(squared_rad.to_value(units.dimensionless_unscaled)) * 206265.0


@cache
def deflection_scale():
    distance = FlatLambdaCDM(H0=69.7, Om0=0.2814, Ob0=0.0464).comoving_distance
    source, convention = (float(1.0 - distance(0.5) / distance(z)) for z in (1.0, 2.5))
    return source / convention


@cache
def simulation_of(preset, point_masses, psf_scale=1.0):
    band = band_of(preset)
    simulation = SimAPI(
        numpix=150 if preset == "model_i" else 64,
        kwargs_single_band=band | {"seeing": band["seeing"] * psf_scale},
        kwargs_model={
            "lens_model_list": ["SIE", "SHEAR"] + ["POINT_MASS"] * point_masses,
            "source_light_model_list": ["SERSIC_ELLIPSE"],
        },
    )
    if preset != "model_i":
        # Set by hand, because lenstronomy 1.13.6 fails to compute this factor with astropy 8.
        simulation.lens_model_class.lens_model.change_redshift_scaling(deflection_scale())
    return simulation


def displaced(lens, x, y):
    scale = band_of(lens.preset)["pixel_scale"]
    offset_x, offset_y = lens.offset_x_pixels * scale, lens.offset_y_pixels * scale
    return {"center_x": offset_x + x, "center_y": offset_y + y}


def deflectors(lens):
    def mass(mass_solar, x, y):
        theta_e = theta_e_of_one_solar_mass() * np.sqrt(mass_solar)
        return {"theta_E": theta_e} | displaced(lens, x, y)

    halo = mass(lens.halo_mass_solar, 0.0, 0.0) | {"e1": lens.halo_e1, "e2": lens.halo_e2}
    # lenstronomy's shear is about (ra_0, dec_0).
    about = dict(zip(("ra_0", "dec_0"), displaced(lens, 0.0, 0.0).values(), strict=True))
    shear = {"gamma1": lens.shear_gamma1, "gamma2": lens.shear_gamma2} | about
    return [halo, shear, *(mass(*point) for point in lens.substructure)]


def image_by_lenstronomy(lens, numerics=None):
    simulation = simulation_of(lens.preset, len(lens.substructure), lens.psf_scale)
    source = {"R_sersic": lens.source_radius_arcsec, "n_sersic": lens.source_index}
    source |= {"e1": lens.source_e1, "e2": lens.source_e2}
    light = source | {"amp": 20.0}
    if lens.preset != "model_i":
        _, (light,), _ = simulation.magnitude2amplitude(None, [source | {"magnitude": 20.0}])
    centre = displaced(lens, lens.source_x_arcsec, lens.source_y_arcsec)
    if numerics is None and lens.source_index > 1:
        near = near_the_source(simulation, lens, centre)
        numerics = {"compute_mode": "adaptive", "supersampling_factor": 7}
        numerics |= {"supersampled_indexes": near}
    numerics = {"point_source_supersampling_factor": 1} | (numerics or {})
    image_model = simulation.image_model_class(numerics)
    return image_model.image(deflectors(lens), [light | centre])


def near_the_source(simulation, lens, centre):
    x, y = simulation.data_class.pixel_coordinates
    x, y = simulation.lens_model_class.ray_shooting(x, y, deflectors(lens))
    return np.hypot(x - centre["center_x"], y - centre["center_y"]) < 0.1


def largest_difference(lens):
    expected = image_by_lenstronomy(lens)
    image = render.render_model(lens)
    assert image.shape == expected.shape
    return np.abs(image - expected).max() / expected.max()


@pytest.mark.parametrize("changes", [{}, OTHER_HALO, ROUND_HALO, OTHER_SOURCE, OTHER_SKY])
@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("preset", PRESETS)
def test_pixels_are_lenstronomys(preset, class_name, changes):
    lenses = [draw_lens(preset, class_name, np.random.default_rng(seed)) for seed in range(3)]
    changed = [replace(lens, **changes) for lens in lenses]
    assert max(map(largest_difference, changed)) < TOLERANCE


def test_pixels_of_wide_lenses_are_lenstronomys():
    rng = np.random.default_rng(3)
    lenses = [draw_lens("model_ii", "axion", rng) for _ in range(20)]
    assert max(largest_difference(with_wide_halo(lens, rng)) for lens in lenses) < TOLERANCE


@pytest.mark.parametrize("preset", PRESETS)
def test_pixels_of_wide_sources_under_other_skies_are_lenstronomys(preset):
    sky = Sky(psf_scale=0.8, lens_offset_pixels=(0, 4))  # one PSF, so that one simulation is built
    rng = np.random.default_rng(5)
    lenses = [with_wide_source(draw_lens(preset, "cdm", rng), rng) for _ in range(3)]
    assert max(largest_difference(sky.over(lens, rng)) for lens in lenses) < STEEP_TOLERANCE


def test_a_steep_source_is_almost_that_of_finely_sampled_pixels():
    rng = np.random.default_rng(1)
    lenses = [replace(draw_lens("model_ii", "no_sub", rng), source_index=4.0) for _ in range(3)]
    for lens in lenses:
        expected = image_by_lenstronomy(lens, {"supersampling_factor": 11})
        assert np.abs(render.render_model(lens) - expected).max() < 0.06 * expected.max()


@pytest.mark.parametrize("preset", PRESETS)
def test_an_image_does_not_depend_on_the_lenses_before_it(preset):
    lens = draw_lens(preset, "cdm", np.random.default_rng(1))
    first = render.render_model(lens)
    for changes in (
        OTHER_HALO,
        {"halo_e2": 0.01},
        {"shear_gamma1": 0.06},
        {"halo_mass_solar": 1},
        OTHER_SKY,
    ):
        assert largest_difference(replace(lens, **changes)) < TOLERANCE
    assert np.array_equal(render.render_model(lens), first)


def test_a_small_change_of_a_parameter_is_a_larger_difference_than_the_tolerance():
    lens = draw_lens("model_ii", "axion", np.random.default_rng(0))
    expected = image_by_lenstronomy(lens)
    for name in (
        *("source_x_arcsec", "source_radius_arcsec", "source_index", "source_e1", "psf_scale"),
        *("halo_mass_solar", "halo_e1", "shear_gamma1"),
    ):
        changed = replace(lens, **{name: getattr(lens, name) * (1 + 1e-9)})
        difference = np.abs(render.render_model(changed) - expected).max()
        assert difference > 10 * TOLERANCE * expected.max()


@pytest.mark.parametrize("preset", ["model_ii", "model_iii"])
def test_bands_are_lenstronomys(preset):
    # Neither the gain nor the defaults of lenstronomy have an influence.
    expected = {"truncation": 5} | band_of(preset)
    del expected["ccd_gain"], expected["psf_type"]
    assert render.BANDS[preset] == expected
