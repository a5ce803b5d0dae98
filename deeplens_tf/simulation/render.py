"""Renders the image of a lens of Models I to III, pixel for pixel as lenstronomy would.

DeepLenseSim's Models I, II and III are three instruments and two scales of the deflections:

- Model I: 150 x 150 pixels of 0.05 arcsec, a Gaussian PSF of 0.087 arcsec FWHM truncated at three
  standard deviations, a source of amplitude 20; always with noise.
- Model II: 64 x 64 pixels of Euclid VIS, six years of coadds, a source of magnitude 20.
- Model III: 64 x 64 pixels of HST WFC3 F160W, a source of magnitude 20. The PSF is the undrizzled
  one, a Gaussian of 0.15 arcsec FWHM. This is an assumption: the publication doesn't state it.

In Models II and III, deflections are defined for a source at redshift 2.5. The source is at 1.0,
so they are scaled by 0.6343. Model I doesn't scale them.

lenstronomy takes seconds to load and computes everything anew for each image. Here NumPy does, with
the same formulas, and what images share is computed once: the grid, the PSF and the deflections of
a halo with its shear.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from deeplens_tf.simulation.compiled_cache import ensure_compiled_cache
from deeplens_tf.simulation.deflections import smooth_deflection, substructure_deflection
from deeplens_tf.simulation.distances import comoving_distance
from deeplens_tf.simulation.light import (
    blur,
    exponential_flux,
    exponential_profile,
    gaussian_kernel,
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
SOURCE_RADIUS_ARCSEC = 0.25
SOURCE_ELLIPTICITY = (-0.1, 0.1)

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

IMAGE_PIXELS = {"model_i": 150, "model_ii": 64, "model_iii": 64}


@dataclass(frozen=True)
class Instrument:
    """What all images of a preset share.

    Attributes:
        x_arcsec: positions of the columns, shape (1, width); the lens is in the centre.
        y_arcsec: positions of the rows, shape (height, 1).
        flux_per_pixel: of a source whose profile is 1, in counts per second.
        psf: weights of the separable PSF, of odd length.
    """

    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    flux_per_pixel: float
    psf: np.ndarray


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
        noise: in Models II and III, add the instrument's noise once to the noise-free model.
            Without it the image is twice the noise-free model, as published. Model I always has
            its own noise.

    Returns:
        float64 image of shape (height, width), in counts for Model I, else in counts per second.

    Raises:
        ValueError: a lens of Model I without an exposure time.
    """
    model = render_model(lens)
    if lens.preset == "model_i":
        if lens.exposure_time_s is None:
            raise ValueError("exposure_time_s must be set for a lens of model_i. Received: None")
        return _expose_model_i(model, lens.exposure_time_s, np.random.default_rng(lens.noise_seed))
    if noise:
        return model + _instrument_noise(lens, model)
    return 2.0 * model


def render_smooth(lens: Lens, noise: bool = False) -> np.ndarray:
    """Return the image of the same lens without its substructure; see `render_image`.

    `render_image(lens) - render_smooth(lens)` is the effect of the substructure on the image.
    """
    return render_image(without_substructure(lens), noise)


def render_model(
    lens: Lens, source_ellipticity: tuple[float, float] = SOURCE_ELLIPTICITY
) -> np.ndarray:
    """Return the lensed source convolved with the PSF, without noise and not doubled.

    Args:
        lens: parameters of the lens.
        source_ellipticity: (e1, e2) of the source; all presets have the default.

    Returns:
        float64 image of shape (height, width), in counts per second.
    """
    instrument = instrument_for(lens.preset)
    x, y = source_plane(lens)
    distances = x - lens.source_x_arcsec, y - lens.source_y_arcsec
    profile = exponential_profile(*distances, SOURCE_RADIUS_ARCSEC, *source_ellipticity)
    return blur(instrument.flux_per_pixel * profile, instrument.psf)


def source_plane(lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """Return where in the source plane each pixel looks: x and y in arcsec, (height, width)."""
    grid = instrument_for(lens.preset)
    deflection = smooth_on_grid(
        lens.preset,
        *(lens.halo_mass_solar, lens.halo_e1, lens.halo_e2),
        *(lens.shear_gamma1, lens.shear_gamma2),
    )
    if lens.substructure:
        deflection = deflection + substructure_deflection(lens, grid.x_arcsec, grid.y_arcsec)
    x, y = deflection_scale(lens.preset) * deflection
    return grid.x_arcsec - x, grid.y_arcsec - y


@lru_cache(maxsize=8)
def smooth_on_grid(
    preset: str,
    halo_mass_solar: float,
    halo_e1: float,
    halo_e2: float,
    shear_gamma1: float,
    shear_gamma2: float,
) -> np.ndarray:
    """Return a halo's and shear's deflection at all pixels, (2, height, width), in arcsec.

    Cached, because all lenses of the priors have the same halo and shear. Arguments as in `Lens`.
    """
    grid = instrument_for(preset)
    lens = Lens(
        *(preset, "no_sub", 0.0, 0.0),
        halo_mass_solar=halo_mass_solar,
        halo_e1=halo_e1,
        halo_e2=halo_e2,
        shear_gamma1=shear_gamma1,
        shear_gamma2=shear_gamma2,
    )
    return smooth_deflection(lens, grid.x_arcsec, grid.y_arcsec)


@lru_cache(maxsize=len(PRESETS))
def instrument_for(preset: str) -> Instrument:
    """Return a preset's instrument."""
    pixel_scale, pixels = pixel_scale_arcsec(preset), IMAGE_PIXELS[preset]
    axis = (np.arange(pixels) - (pixels - 1) / 2) * pixel_scale
    return Instrument(
        x_arcsec=axis[np.newaxis, :],
        y_arcsec=axis[:, np.newaxis],
        flux_per_pixel=_amplitude(preset) * pixel_scale**2,
        psf=gaussian_kernel(BANDS[preset]["seeing"] / pixel_scale, BANDS[preset]["truncation"]),
    )


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


def _amplitude(preset: str) -> float:
    """Return the source's surface brightness at its half-light radius, per second and arcsec^2."""
    if preset == "model_i":
        return MODEL_I_AMPLITUDE
    flux = 10.0 ** ((BANDS[preset]["magnitude_zero_point"] - SOURCE_MAGNITUDE) / 2.5)
    return float(flux / exponential_flux(SOURCE_RADIUS_ARCSEC))


def _instrument_noise(lens: Lens, model: np.ndarray) -> np.ndarray:
    ensure_compiled_cache()
    # Imported here because lenstronomy takes seconds to load.
    from lenstronomy.SimulationAPI.observation_api import SingleBand

    # Not lenstronomy's noise_for_model, which draws from NumPy's global state.
    rng = np.random.default_rng(lens.noise_seed)
    band = SingleBand(**BANDS[lens.preset])
    background = band.background_noise * rng.standard_normal(model.shape)
    return background + band.flux_noise(model) * rng.standard_normal(model.shape)


def _expose_model_i(
    model: np.ndarray, exposure_time_s: float, rng: np.random.Generator
) -> np.ndarray:
    # As in DeepLenseSim, Poisson noise enters twice: as a Gaussian and as a draw.
    poisson = np.sqrt(np.abs(model) / exposure_time_s) * rng.standard_normal(model.shape)
    background = MODEL_I_BACKGROUND_RMS * rng.standard_normal(model.shape)
    expected = exposure_time_s * (model + poisson + background)
    return rng.poisson(expected.clip(min=0.0)).astype(np.float64)
