from dataclasses import replace
from math import gamma

import numpy as np
import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation import render
from deeplens_tf.simulation.deflections import smooth_deflection, substructure_deflection
from deeplens_tf.simulation.priors import (
    CLASSES,
    PRESETS,
    Lens,
    draw_lens,
    einstein_radius_arcsec,
    without_substructure,
)

# pixels, arcsec per pixel, PSF FWHM in arcsec, standard deviations at which the PSF is cut
CAMERAS = {
    "model_i": (150, 0.05, 0.087, 3),
    "model_ii": (64, 0.101, 0.16, 5),
    "model_iii": (64, 0.08, 0.15, 5),
}
ZERO_POINTS = {"model_ii": 24.0, "model_iii": 25.96}
SERSIC_B = 1.9992 - 0.3271
DEFLECTION_SCALE = 0.6343


def some_lens(preset="model_ii", class_name="cdm", seed=0):
    return draw_lens(preset, class_name, np.random.default_rng(seed))


def bare_lens(preset="model_i", **changes):
    empty = Lens(preset, "no_sub", 0.1, -0.2, halo_mass_solar=0, halo_e1=0, shear_gamma1=0)
    return replace(empty, **changes)


def isothermal_ellipsoid(x, y, theta_e, e1):
    """Deflection of Kormann, Schneider & Bartelmann (1994), eq. 27a, major axis along x."""
    q = (1 - e1) / (1 + e1)
    root = np.sqrt(1 - q**2)
    r = np.hypot(x, y)
    scale = theta_e * np.sqrt(q) / root
    return scale * np.arcsin(root * x / r), scale * np.arcsinh(root / q * y / r)


@pytest.mark.parametrize("preset", ["model_ii", "model_iii"])
def test_deflections_of_models_ii_and_iii_are_scaled(preset):
    lens = some_lens(preset, "cdm")
    positions = render.pixel_positions(preset)
    angles = smooth_deflection(lens, *positions) + substructure_deflection(lens, *positions)
    scaled = np.array(np.meshgrid(*positions)) - render.source_plane(lens)
    ratio = scaled / angles
    assert ratio == pytest.approx(np.full_like(ratio, DEFLECTION_SCALE), abs=5e-5)


def test_deflection_scale_matches_its_formula():
    def comoving(redshift):
        z = np.linspace(0, redshift, 20001)
        return np.trapezoid((0.2814 * (1 + z) ** 3 + 0.7186) ** -0.5, z)

    lens, source, convention = comoving(0.5), comoving(1.0), comoving(2.5)
    expected = (1 - lens / source) / (1 - lens / convention)
    assert render.deflection_scale("model_ii") == pytest.approx(expected, rel=1e-7)
    assert render.deflection_scale("model_i") == 1.0


def image_in_numpy(lens):
    """The complete model in NumPy: rays traced to the source, Sersic profile, PSF."""
    pixels, pixel_scale, fwhm, truncation = CAMERAS[lens.preset]
    axis = (np.arange(pixels) - (pixels - 1) / 2) * pixel_scale
    x, y = np.meshgrid(axis, axis)
    light = sersic_in_numpy(*source_plane_in_numpy(lens, x, y), lens) * pixel_scale**2
    kernel = gaussian_in_numpy(fwhm / 2.3548200450309493 / pixel_scale, truncation)
    return blur_in_numpy(blur_in_numpy(light, kernel).T, kernel).T


def source_plane_in_numpy(lens, x, y):
    theta_e = einstein_radius_arcsec(lens.halo_mass_solar)
    alpha = np.array(isothermal_ellipsoid(x, y, theta_e, lens.halo_e1))
    alpha += [lens.shear_gamma1 * x, -lens.shear_gamma1 * y]
    for point in lens.substructure:
        dx, dy = x - point.x_arcsec, y - point.y_arcsec
        alpha += (
            einstein_radius_arcsec(point.mass_solar) ** 2 * np.array([dx, dy]) / (dx**2 + dy**2)
        )
    scale = 1.0 if lens.preset == "model_i" else render.deflection_scale(lens.preset)
    return x - scale * alpha[0], y - scale * alpha[1]


def sersic_in_numpy(x, y, lens):
    length = np.hypot(-0.1, 0.1)
    q, angle = (1 - length) / (1 + length), np.arctan2(0.1, -0.1) / 2
    dx, dy = x - lens.source_x_arcsec, y - lens.source_y_arcsec
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    radius = np.sqrt(q * along**2 + across**2 / q)
    return amplitude_in_numpy(lens.preset) * np.exp(-SERSIC_B * (radius / 0.25 - 1))


def amplitude_in_numpy(preset):
    if preset == "model_i":
        return 20.0
    counts_per_second = 10 ** ((ZERO_POINTS[preset] - 20) / 2.5)
    return counts_per_second / (2 * np.pi * 0.25**2 * np.exp(SERSIC_B) * SERSIC_B**-2 * gamma(2))


def gaussian_in_numpy(sigma_pixels, truncation):
    reach = int(truncation * sigma_pixels + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_pixels) ** 2)
    return weights / weights.sum()


def blur_in_numpy(image, kernel):
    reach = len(kernel) // 2
    padded = np.pad(image, ((0, 0), (reach, reach)), mode="edge")
    columns = image.shape[1]
    return sum(weight * padded[:, i : i + columns] for i, weight in enumerate(kernel))


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("preset", PRESETS)
def test_image_agrees_with_a_simulation_in_numpy(preset, class_name):
    lens = some_lens(preset, class_name)
    image, expected = render.render_model(lens), image_in_numpy(lens)
    assert image.shape == render.image_shape(preset) == expected.shape
    assert np.abs(image - expected).max() < 1e-7 * expected.max()


@pytest.mark.parametrize("preset", ["model_ii", "model_iii"])
def test_unlensed_source_has_magnitude_20(preset):
    flux = render.render_model(bare_lens(preset)).sum()
    assert flux == pytest.approx(10 ** ((ZERO_POINTS[preset] - 20) / 2.5), rel=0.01)


@pytest.mark.parametrize("preset", ["model_ii", "model_iii"])
def test_image_without_noise_is_twice_the_model(preset):
    lens = some_lens(preset)
    assert np.array_equal(render.render_image(lens), 2 * render.render_model(lens))


# Read noise in electrons, exposures, seconds each, sky in magnitudes per square arcsec.
NOISES = {"model_ii": (4.2, 4, 565.0, 22.35), "model_iii": (4.0, 1, 5400.0, 22.3)}


@pytest.mark.parametrize("preset", ["model_ii", "model_iii"])
def test_noise_has_the_instruments_variance(preset):
    read_noise, exposures, seconds, sky_magnitude = NOISES[preset]
    time = exposures * seconds
    sky = 10 ** ((ZERO_POINTS[preset] - sky_magnitude) / 2.5) * CAMERAS[preset][1] ** 2
    lenses = [some_lens(preset, seed=seed) for seed in range(20)]
    models = np.array([render.render_model(lens) for lens in lenses])
    noise = np.array([render.render_image(lens, noise=True) for lens in lenses]) - models
    variance = (exposures * read_noise**2 + sky * time) / time**2 + models / time
    pulls = noise / np.sqrt(variance)
    bright = models > np.quantile(models, 0.95)
    assert pulls.mean() == pytest.approx(0, abs=0.02)
    assert pulls.std() == pytest.approx(1, abs=0.02)
    assert pulls[bright].std() == pytest.approx(1, abs=0.04)


def test_model_i_counts_have_their_poisson_noise_twice():
    lenses = [some_lens("model_i", seed=seed) for seed in range(6)]
    models = np.array([render.render_model(lens) for lens in lenses])
    times = np.array([lens.exposure_time_s for lens in lenses])[:, None, None]
    counts = np.array([render.render_image(lens) for lens in lenses])
    expected = models * times
    bright = expected > 200
    variance = 2 * expected + (1e-2 * times) ** 2
    pulls = ((counts - expected) / np.sqrt(variance))[bright]
    assert counts.dtype == np.float64
    assert np.array_equal(counts, counts.round())
    assert counts.min() >= 0
    assert pulls.mean() == pytest.approx(0, abs=0.05)
    assert pulls.std() == pytest.approx(1, abs=0.03)


def test_model_i_is_always_noisy():
    lens = some_lens("model_i")
    assert np.array_equal(render.render_image(lens), render.render_image(lens, noise=True))


@pytest.mark.parametrize("preset", PRESETS)
def test_noise_is_determined_by_the_lens(preset):
    lens = some_lens(preset)
    image = render.render_image(lens, noise=True)
    other = render.render_image(replace(lens, noise_seed=lens.noise_seed + 1), noise=True)
    assert np.array_equal(image, render.render_image(lens, noise=True))
    assert not np.array_equal(image, other)


def test_smooth_image_is_that_of_the_lens_without_substructure():
    lens = some_lens("model_ii", "axion")
    smooth = render.render_smooth(lens)
    assert np.array_equal(smooth, render.render_image(without_substructure(lens)))
    assert np.abs(render.render_image(lens) - smooth).max() > 1e-3 * smooth.max()


@pytest.mark.parametrize("preset", PRESETS)
def test_pixel_scale_is_that_of_the_instrument(preset):
    scale = render.pixel_scale_arcsec(preset)
    assert scale == CAMERAS[preset][1]
    assert np.diff(render.pixel_positions(preset)[0]) == pytest.approx(scale, abs=1e-14)


@pytest.mark.parametrize("function", [render.pixel_scale_arcsec, render.deflection_scale])
def test_unknown_presets_are_refused(function):
    with pytest.raises(RequestError, match="unknown preset 'model_iv'; known: model_i, "):
        function("model_iv")


def test_a_lens_of_model_i_needs_an_exposure_time():
    with pytest.raises(ValueError, match="exposure_time_s must be set"):
        render.render_image(bare_lens("model_i"))
