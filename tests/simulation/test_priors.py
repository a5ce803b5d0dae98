from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from deeplens_tf.simulation import priors
from deeplens_tf.simulation.priors import CLASSES, PRESETS, draw_lens


def draws(class_name, count=2000, preset="model_ii", seed=5):
    rng = np.random.default_rng(seed)
    return [draw_lens(preset, class_name, rng) for _ in range(count)]


def is_uniform(values, low, high):
    return stats.kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3


def luminosity_distance_m(redshift):
    inverse_e, _ = integrate.quad(lambda z: (0.3 * (1 + z) ** 3 + 0.7) ** -0.5, 0, redshift)
    return (1 + redshift) * inverse_e * 299792.458 / 70 * 3.0856775814913673e22


def test_einstein_radius_matches_its_formula():
    lens, source = luminosity_distance_m(0.5), luminosity_distance_m(1.0)
    length_m = 4 * 6.6743e-11 * 1e12 * 1.98841e30 / 299792458.0**2
    by_hand = np.sqrt(length_m * (source - lens) / (lens * source)) * 206265
    assert priors.einstein_radius_arcsec(1e12) == pytest.approx(by_hand, rel=1e-6)
    assert priors.einstein_radius_arcsec(1e12) == pytest.approx(1.2814906, abs=1e-7)


def test_einstein_radius_grows_with_the_root_of_the_mass():
    ratio = priors.einstein_radius_arcsec(4e8) / priors.einstein_radius_arcsec(1e8)
    assert ratio == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_generator_state_gives_the_same_lens(preset, class_name):
    one, two = (draw_lens(preset, class_name, np.random.default_rng(3)) for _ in range(2))
    assert one == two
    assert one != draw_lens(preset, class_name, np.random.default_rng(4))


def test_source_is_uniform_in_a_square():
    lenses = draws("no_sub")
    assert is_uniform([lens.source_x_arcsec for lens in lenses], -0.35, 0.35)
    assert is_uniform([lens.source_y_arcsec for lens in lenses], -0.35, 0.35)


def test_classes_differ_in_their_substructure():
    counts = {name: len(draws(name, 1)[0].substructure) for name in CLASSES}
    assert counts == {"axion": 100, "cdm": 25, "no_sub": 0}


def test_only_axion_lenses_have_an_axion_mass():
    assert [draws(name, 1)[0].axion_mass_ev is None for name in CLASSES] == [False, True, True]


def test_axion_mass_is_uniform_in_its_logarithm():
    lenses = draws("axion", 1000)
    assert is_uniform(np.log10([lens.axion_mass_ev for lens in lenses]), -24, -22)
    assert is_uniform([lens.vortex_angle_rad for lens in lenses], 0, 2 * np.pi)


@pytest.mark.parametrize(
    ("axion_mass_ev", "length_arcsec"), [(1e-24, 3.0), (1e-23, 0.3), (1e-22, 0.03)]
)
def test_vortex_is_a_line_of_equal_masses(axion_mass_ev, length_arcsec):
    points = priors.vortex(axion_mass_ev, angle_rad=0.7)
    x = np.array([point.x_arcsec for point in points])
    y = np.array([point.y_arcsec for point in points])
    direction = np.array([np.cos(0.7), np.sin(0.7)])
    along, across = (
        np.array([x, y]).T @ direction,
        np.array([x, y]).T @ [-direction[1], direction[0]],
    )
    assert len(points) == 100
    assert {point.mass_solar for point in points} == {3e8}
    assert np.allclose(across, 0, atol=1e-15)
    assert np.allclose(np.diff(along), 2 * length_arcsec / 99)
    assert (along[0], along[-1]) == pytest.approx((-length_arcsec, length_arcsec))


def test_drawn_vortex_belongs_to_the_drawn_mass():
    lens = draws("axion", 1)[0]
    assert lens.substructure == priors.vortex(lens.axion_mass_ev, lens.vortex_angle_rad)


def test_subhalo_masses_follow_their_power_law():
    masses = np.array([p.mass_solar for lens in draws("cdm", 800) for p in lens.substructure])
    assert masses.min() >= 1e6
    assert masses.max() <= 1e10

    def integral_of_slope(slope):
        return lambda m: (
            (m ** (slope + 1) - 1e6 ** (slope + 1)) / (1e10 ** (slope + 1) - 1e6 ** (slope + 1))
        )

    assert stats.kstest(masses, integral_of_slope(-0.9)).pvalue > 1e-3
    assert stats.kstest(masses, integral_of_slope(-0.95)).pvalue < 1e-6


def test_extreme_quantiles_are_the_bounds_of_the_mass_function():
    bounds = priors.subhalo_masses_solar(np.array([0.0, 1.0]))
    assert bounds == pytest.approx([1e6, 1e10], rel=1e-9)


def test_subhalos_are_uniform_in_radius_and_angle():
    points = [point for lens in draws("cdm", 200) for point in lens.substructure]
    x = np.array([point.x_arcsec for point in points])
    y = np.array([point.y_arcsec for point in points])
    assert is_uniform(np.hypot(x, y), 0.25, 2.0)
    assert is_uniform(np.arctan2(y, x), -np.pi, np.pi)


def test_only_model_i_draws_an_exposure_time():
    times = [lens.exposure_time_s for lens in draws("no_sub", preset="model_i")]
    assert is_uniform(np.log10(times), 3, 3.5)
    assert {draws("cdm", 1, preset)[0].exposure_time_s for preset in PRESETS[1:]} == {None}


def test_smooth_lens_keeps_everything_but_the_substructure():
    lens = draws("cdm", 1)[0]
    smooth = priors.without_substructure(lens)
    assert smooth.substructure == ()
    assert replace(smooth, substructure=lens.substructure) == lens


@pytest.mark.parametrize(
    ("preset", "class_name"), [("model_iv", "cdm"), ("model_ii", "wdm"), ("", "")]
)
def test_unknown_names_are_refused_and_the_known_ones_listed(preset, class_name):
    with pytest.raises(ValueError, match="known: "):
        draw_lens(preset, class_name, np.random.default_rng(0))
