"""Renders the image of a lens of Models I to III, pixel for pixel as lenstronomy would.

DeepLenseSim's Models I, II and III are three instruments and two scales of the deflections:

- Model I: 150 x 150 pixels of 0.05 arcsec, a Gaussian PSF of 0.087 arcsec FWHM truncated at three
  standard deviations, a source of amplitude 20; always with noise.
- Model II: 64 x 64 pixels of Euclid VIS, six years of coadds, a source of magnitude 20.
- Model III: 64 x 64 pixels of HST WFC3 F160W, a source of magnitude 20. The PSF is the undrizzled
  one, a Gaussian of 0.15 arcsec FWHM. This is an assumption: the publication doesn't state it.

In Models II and III, deflections are defined for a source at redshift 2.5. The source is at 1.0,
so they are scaled by 0.6343. Model I doesn't scale them.

Light is evaluated in the centre of each pixel, as in DeepLenseSim. A source of an index above 1 is
too steep for that near its centre, where the mean of 7 x 7 points of the pixel is taken.

lenstronomy takes seconds to load and computes everything anew for each image. Here NumPy does, with
the same formulas, and what images share is computed once: the grid, the PSF and the deflections of
a halo with its shear.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from deeplens_tf.simulation.compiled_cache import ensure_compiled_cache
from deeplens_tf.simulation.deflections import smooth_deflection, substructure_deflection
from deeplens_tf.simulation.distances import comoving_distance
from deeplens_tf.simulation.light import (
    blur,
    gaussian_kernel,
    sersic_flux,
    sersic_profile,
)
from deeplens_tf.simulation.priors import (
    LENS_REDSHIFT,
    PRESETS,
    SOURCE_REDSHIFT,
    Lens,
    require_known,
    without_substructure,
)

CONVENTION_REDSHIFT = 2.5
CONVENTION_OMEGA_MATTER = 0.2814
SOURCE_MAGNITUDE = 20.0

MODEL_I_AMPLITUDE = 20.0
MODEL_I_BACKGROUND_RMS = 1e-2
# In lenstronomy's words. `seeing` is the FWHM of the PSF, `truncation` where it ends, in standard
# deviations; Models II and III have lenstronomy's Euclid VIS and HST WFC3_F160W.
BANDS: dict[str, dict[str, Any]] = {
    "model_i": {"pixel_scale": 0.05, "seeing": 0.087, "truncation": 3},
    "model_ii": {
        **{"pixel_scale": 0.101, "seeing": 0.16, "truncation": 5, "magnitude_zero_point": 24.0},
        **{"exposure_time": 565.0, "num_exposures": 4, "sky_brightness": 22.35, "read_noise": 4.2},
    },
    "model_iii": {
        **{"pixel_scale": 0.08, "seeing": 0.15, "truncation": 5, "magnitude_zero_point": 25.96},
        **{"exposure_time": 5400.0, "num_exposures": 1, "sky_brightness": 22.3, "read_noise": 4.0},
    },
}

# Within this distance of the source's centre, light of an index above 1 is the mean of a pixel's
# points, on a grid of so many on a side. An image of index 4 is then wrong by 3 % of its maximum
# (median), as one of index 1 is by 4 %; with one point it would be by 27 %, and by 150 % in some.
CUSP_RADIUS_ARCSEC = 0.1
CUSP_POINTS = 7

IMAGE_PIXELS = {"model_i": 150, "model_ii": 64, "model_iii": 64}


def image_shape(preset: str) -> tuple[int, int]:
    """Return the (height, width) in pixels of a preset's images."""
    return IMAGE_PIXELS[preset], IMAGE_PIXELS[preset]


def pixel_scale_arcsec(preset: str) -> float:
    """Return the side of a preset's pixels, in arcsec.

    Raises:
        RequestError: `preset` is unknown.
    """
    require_known("preset", preset, PRESETS)
    return float(BANDS[preset]["pixel_scale"])


def render_image(lens: Lens, noise: bool = False) -> np.ndarray:
    """Return the image of a lens, as DeepLenseSim publishes it.

    Args:
        lens: parameters, from `deeplens_tf.simulation.priors.draw_lens`.
        noise: in Models II and III, add the instrument's noise, times the lens's `noise_scale`,
            once to the noise-free model. Without it the image is twice the noise-free model, as
            published. Model I always has its own noise.

    Returns:
        float64 image of shape (height, width), in counts for Model I, else in counts per second.

    Raises:
        ValueError: a lens of Model I without an exposure time.
    """
    model = render_model(lens)
    if lens.preset == "model_i":
        if lens.exposure_time_s is None:
            raise ValueError("exposure_time_s must be set for a lens of model_i. Received: None")
        return _expose_model_i(model, lens.exposure_time_s, lens)
    if noise:
        return model + lens.noise_scale * _instrument_noise(lens, model)
    return 2.0 * model


def render_smooth(lens: Lens, noise: bool = False) -> np.ndarray:
    """Return the image of the same lens without its substructure; see `render_image`.

    `render_image(lens) - render_smooth(lens)` is the effect of the substructure on the image.
    """
    return render_image(without_substructure(lens), noise)


def render_model(lens: Lens) -> np.ndarray:
    """Return the lensed source convolved with the PSF, without noise and not doubled.

    Args:
        lens: parameters of the lens.

    Returns:
        float64 image of shape (height, width), in counts per second.
    """
    x, y = source_plane(lens)
    profile = _profile(lens, x, y)
    if lens.source_index > 1.0:
        distance = np.hypot(x - lens.source_x_arcsec, y - lens.source_y_arcsec)
        near = distance < CUSP_RADIUS_ARCSEC
        profile[near] = _mean_profile(lens, near)
    flux_per_pixel = _amplitude(lens) * pixel_scale_arcsec(lens.preset) ** 2
    return blur(flux_per_pixel * profile, _psf(lens))


def source_plane(lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """Return where in the source plane each pixel looks: x and y in arcsec, (height, width)."""
    offset = lens.offset_x_pixels, lens.offset_y_pixels
    columns, rows = pixel_positions(lens.preset, *offset)
    deflection = smooth_on_grid(
        *(lens.preset, *offset),
        *(lens.halo_mass_solar, lens.halo_e1, lens.halo_e2),
        *(lens.shear_gamma1, lens.shear_gamma2),
    )
    if lens.substructure:
        deflection = deflection + substructure_deflection(lens, columns, rows)
    x, y = deflection_scale(lens.preset) * deflection
    return columns - x, rows - y


@lru_cache(maxsize=8)
def smooth_on_grid(
    preset: str,
    offset_x_pixels: float,
    offset_y_pixels: float,
    halo_mass_solar: float,
    halo_e1: float,
    halo_e2: float,
    shear_gamma1: float,
    shear_gamma2: float,
) -> np.ndarray:
    """Return a halo's and shear's deflection at all pixels, (2, height, width), in arcsec.

    Cached, because all lenses of the published prior have the same ones. Arguments as in `Lens`.
    """
    lens = Lens(
        *(preset, "no_sub", 0.0, 0.0),
        halo_mass_solar=halo_mass_solar,
        halo_e1=halo_e1,
        halo_e2=halo_e2,
        shear_gamma1=shear_gamma1,
        shear_gamma2=shear_gamma2,
    )
    return smooth_deflection(lens, *pixel_positions(preset, offset_x_pixels, offset_y_pixels))


@lru_cache(maxsize=8)
def pixel_positions(
    preset: str, offset_x_pixels: float = 0.0, offset_y_pixels: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the pixels relative to the lens, in arcsec.

    Args:
        preset: one of `PRESETS`.
        offset_x_pixels: displacement of the lens from the image's centre.
        offset_y_pixels: displacement of the lens from the image's centre.

    Returns:
        Those of the columns, shape (1, width), and of the rows, shape (height, 1).
    """
    pixels = IMAGE_PIXELS[preset]
    centred = np.arange(pixels) - (pixels - 1) / 2
    x, y = (
        (centred - offset) * pixel_scale_arcsec(preset)
        for offset in (offset_x_pixels, offset_y_pixels)
    )
    return x[np.newaxis, :], y[:, np.newaxis]


@lru_cache(maxsize=len(PRESETS))
def deflection_scale(preset: str) -> float:
    """Return the factor by which a preset multiplies all deflections.

    In Models II and III it is D_LS / D_S of the source, divided by D_LS / D_S at redshift 2.5. In
    a flat universe D_LS / D_S is 1 - chi_L / chi_S, with comoving distances chi. The cosmology is
    pyHalo's, which DeepLenseSim uses for this factor only.

    Raises:
        RequestError: `preset` is unknown.
    """
    require_known("preset", preset, PRESETS)
    if preset == "model_i":
        return 1.0
    to_lens, to_source, to_convention = (
        comoving_distance(redshift, CONVENTION_OMEGA_MATTER)
        for redshift in (LENS_REDSHIFT, SOURCE_REDSHIFT, CONVENTION_REDSHIFT)
    )
    return (1.0 - to_lens / to_source) / (1.0 - to_lens / to_convention)


def _profile(lens: Lens, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the source's profile at positions in the source plane, in arcsec."""
    return sersic_profile(
        *(x - lens.source_x_arcsec, y - lens.source_y_arcsec),
        *(lens.source_radius_arcsec, lens.source_index, lens.source_e1, lens.source_e2),
    )


def _mean_profile(lens: Lens, pixels: np.ndarray) -> np.ndarray:
    """Return the mean of the source's profile in the pixels that a mask of the image selects."""
    steps = (np.arange(CUSP_POINTS) - (CUSP_POINTS - 1) / 2) / CUSP_POINTS
    steps_x, steps_y = np.meshgrid(*(pixel_scale_arcsec(lens.preset) * steps,) * 2)
    columns, rows = pixel_positions(lens.preset, lens.offset_x_pixels, lens.offset_y_pixels)
    row, column = np.nonzero(pixels)
    x = columns[0, column, np.newaxis] + steps_x.ravel()  # (pixels, points)
    y = rows[row] + steps_y.ravel()
    deflection = smooth_deflection(lens, x, y) + substructure_deflection(lens, x, y)
    dx, dy = deflection_scale(lens.preset) * deflection
    return _profile(lens, x - dx, y - dy).mean(axis=1)


def _amplitude(lens: Lens) -> float:
    """Return the source's surface brightness at its half-light radius, per second and arcsec^2."""
    if lens.preset == "model_i":
        return MODEL_I_AMPLITUDE
    flux = 10.0 ** ((BANDS[lens.preset]["magnitude_zero_point"] - SOURCE_MAGNITUDE) / 2.5)
    return float(flux / sersic_flux(lens.source_radius_arcsec, lens.source_index))


def _psf(lens: Lens) -> np.ndarray:
    """Return the weights of the separable PSF, of odd length."""
    band = BANDS[lens.preset]
    fwhm_pixels = band["seeing"] * lens.psf_scale / band["pixel_scale"]
    return gaussian_kernel(fwhm_pixels, band["truncation"])


def _instrument_noise(lens: Lens, model: np.ndarray) -> np.ndarray:
    ensure_compiled_cache()
    # Imported here because lenstronomy takes seconds to load.
    from lenstronomy.SimulationAPI.observation_api import SingleBand

    # Not lenstronomy's noise_for_model, which draws from NumPy's global state.
    rng = np.random.default_rng(lens.noise_seed)
    band = SingleBand(**BANDS[lens.preset])
    background = band.background_noise * rng.standard_normal(model.shape)
    return background + band.flux_noise(model) * rng.standard_normal(model.shape)


def _expose_model_i(model: np.ndarray, exposure_time_s: float, lens: Lens) -> np.ndarray:
    rng = np.random.default_rng(lens.noise_seed)
    # Photon noise, relative to the light, grows as the root of the time gets shorter.
    time_s = exposure_time_s / lens.noise_scale**2
    background_rms = lens.noise_scale * MODEL_I_BACKGROUND_RMS
    # As in DeepLenseSim, Poisson noise enters twice: as a Gaussian and as a draw.
    poisson = np.sqrt(np.abs(model) / time_s) * rng.standard_normal(model.shape)
    background = background_rms * rng.standard_normal(model.shape)
    expected = time_s * (model + poisson + background)
    return rng.poisson(expected.clip(min=0.0)).astype(np.float64)
