import numpy as np
import pytest
from lenstronomy.LensModel.Profiles.point_mass import PointMass as LenstronomyPointMass
from lenstronomy.LensModel.Profiles.sie import SIE

from deeplens_tf.simulation import deflections
from deeplens_tf.simulation.deflections import smooth_deflection, substructure_deflection
from deeplens_tf.simulation.priors import Lens, PointMass, draw_lens, einstein_radius_arcsec


def bare_lens(*points, halo_mass_solar=0.0, halo_e1=0.0, shear_gamma1=0.0, shear_gamma2=0.0):
    return Lens(
        *("model_i", "no_sub", 0.1, -0.2, points),
        halo_mass_solar=halo_mass_solar,
        halo_e1=halo_e1,
        shear_gamma1=shear_gamma1,
        shear_gamma2=shear_gamma2,
    )


def circle(radius_arcsec):
    angles = np.linspace(0.1, 6.2, 17)
    return radius_arcsec * np.cos(angles), radius_arcsec * np.sin(angles)


def test_point_mass_deflects_by_its_closed_form():
    x, y = circle(1.5)
    distance = np.hypot(x - 0.3, y - 0.4)
    expected = einstein_radius_arcsec(1e11) ** 2 * np.array([x - 0.3, y - 0.4]) / distance**2
    found = substructure_deflection(bare_lens(PointMass(1e11, 0.3, 0.4)), x, y)
    assert found == pytest.approx(expected, rel=1e-12)


def test_point_mass_makes_an_einstein_ring_of_its_radius():
    x, y = circle(einstein_radius_arcsec(1e12))
    found = substructure_deflection(bare_lens(PointMass(1e12, 0.0, 0.0)), x, y)
    assert found == pytest.approx(np.array([x, y]), rel=1e-9)


@pytest.mark.parametrize("class_name", ["axion", "cdm"])
def test_point_masses_together_deflect_like_one_after_the_other(class_name):
    lens = draw_lens("model_ii", class_name, np.random.default_rng(2))
    x, y = np.linspace(-2, 2, 7)[np.newaxis], np.linspace(-1, 3, 5)[:, np.newaxis]
    expected = np.zeros((2, 5, 7))
    for mass_solar, *centre in lens.substructure:
        for row in range(5):
            for column in range(7):
                vector = np.array([x[0, column], y[row, 0]]) - centre
                size = einstein_radius_arcsec(mass_solar) ** 2 / (vector @ vector)
                expected[:, row, column] += size * vector
    found = substructure_deflection(lens, x, y)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1e-15, 1e-12])
def test_a_ray_through_or_beside_a_point_mass_is_deflected_as_by_lenstronomy(offset):
    x, y = np.array([offset, 1.0]), np.array([0.0, 1.0])
    expected = LenstronomyPointMass().derivatives(x, y, theta_E=0.5)
    zero = np.zeros(1)
    found = deflections.point_masses(x, y, np.array([0.25]), zero, zero)
    assert found == pytest.approx(np.array(expected), rel=1e-12)


def test_no_point_masses_deflect_nothing():
    assert np.array_equal(substructure_deflection(bare_lens(), *circle(1.0)), np.zeros((2, 17)))


def test_round_halo_deflects_by_its_einstein_radius_everywhere():
    lens = bare_lens(halo_mass_solar=1e12)
    for radius in (0.3, 1.0, 3.0):
        length = np.hypot(*smooth_deflection(lens, *circle(radius)))
        assert length == pytest.approx(einstein_radius_arcsec(1e12), rel=1e-6)


def test_halo_is_an_isothermal_ellipsoid_along_x():
    """Kormann, Schneider & Bartelmann (1994), eq. 27a."""
    x, y = circle(1.1)
    q = (1 - 0.1) / (1 + 0.1)
    root, r = np.sqrt(1 - q**2), np.hypot(x, y)
    scale = einstein_radius_arcsec(1e12) * np.sqrt(q) / root
    expected = scale * np.array([np.arcsin(root * x / r), np.arcsinh(root / q * y / r)])
    found = smooth_deflection(bare_lens(halo_mass_solar=1e12, halo_e1=0.1), x, y)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("e1", "e2"), [(0.1, 0.0), (-0.2, 0.3), (0.0, -0.4), (0.0, 0.0)])
def test_halo_is_lenstronomys_also_in_its_core(e1, e2):
    x, y = np.array([1.0, -0.3, 1e-11, 0.0, 1e-9]), np.array([-2.0, 0.1, 0.0, 0.0, -1e-10])
    expected = SIE().derivatives(x, y, theta_E=1.3, e1=e1, e2=e2)
    found = deflections.isothermal_ellipsoid(x, y, 1.3, e1, e2)
    assert found == pytest.approx(np.array(expected), rel=1e-12)


def test_shear_stretches_x_and_squeezes_y():
    x, y = circle(1.3)
    expected = np.array([0.05 * x + 0.02 * y, 0.02 * x - 0.05 * y])
    found = smooth_deflection(bare_lens(shear_gamma1=0.05, shear_gamma2=0.02), x, y)
    assert found == pytest.approx(expected, rel=1e-12)
