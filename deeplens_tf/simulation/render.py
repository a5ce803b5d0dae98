"""Renders the image of a lens. The only module that uses lenstronomy.

DeepLenseSim's Models I, II and III are three instruments and two scales of the deflections:

- Model I: 150 x 150 pixels of 0.05 arcsec, a Gaussian PSF of 0.087 arcsec FWHM truncated at three
  standard deviations, a source of amplitude 20; always with noise.
- Model II: 64 x 64 pixels of Euclid VIS, six years of coadds, a source of magnitude 20.
- Model III: 64 x 64 pixels of HST WFC3 F160W, a source of magnitude 20. The PSF is the undrizzled
  one, a Gaussian of 0.15 arcsec FWHM. This is an assumption: the publication doesn't state it.

In Models II and III, deflections are defined for a source at redshift 2.5. The source is at 1.0,
so they are scaled by 0.6343. Model I doesn't scale them.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens_tf.simulation.compiled_cache import ensure_compiled_cache
from deeplens_tf.simulation.priors import (
    LENS_REDSHIFT,
    PRESETS,
    SOURCE_REDSHIFT,
    Lens,
    einstein_radius_arcsec,
    require_known,
    without_substructure,
)

if TYPE_CHECKING:
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.SimulationAPI.sim_api import SimAPI

CONVENTION_REDSHIFT = 2.5
SOURCE_MAGNITUDE = 20.0
SOURCE_SHAPE = {"R_sersic": 0.25, "n_sersic": 1.0, "e1": -0.1, "e2": 0.1}

MODEL_I_AMPLITUDE = 20.0
MODEL_I_BACKGROUND_RMS = 1e-2
MODEL_I_BAND = {
    "pixel_scale": 0.05,
    "seeing": 0.087,
    "truncation": 3,
    "psf_type": "GAUSSIAN",
    "background_noise": MODEL_I_BACKGROUND_RMS,
    # Required by lenstronomy; Model I's amplitude and noise don't depend on them.
    "exposure_time": 1.0,
    "magnitude_zero_point": 0.0,
}
MODEL_III_SEEING_ARCSEC = 0.15

IMAGE_PIXELS = {"model_i": 150, "model_ii": 64, "model_iii": 64}


@dataclass(frozen=True)
class Instrument:
    """A preset's instrument, for lenses with a given number of point masses.

    Attributes:
        simulation: lenstronomy's description of band, lens and source.
        image_model: lenstronomy's function from parameters to an image.
        amplitude: surface brightness of the source at its half-light radius.
    """

    simulation: "SimAPI"
    image_model: "ImageModel"
    amplitude: float

    @property
    def lens_model(self) -> "LensModel":
        """The deflector, for deflection angles in arcsec."""
        return self.simulation.lens_model_class


def image_shape(preset: str) -> tuple[int, int]:
    """Return the (height, width) in pixels of a preset's images."""
    return IMAGE_PIXELS[preset], IMAGE_PIXELS[preset]


def pixel_scale_arcsec(preset: str) -> float:
    """Return the side of a preset's pixels, in arcsec.

    Raises:
        RequestError: `preset` is unknown.
    """
    return float(_band(preset)["pixel_scale"])


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
    rng = np.random.default_rng(lens.noise_seed)
    if lens.preset == "model_i":
        if lens.exposure_time_s is None:
            raise ValueError("exposure_time_s must be set for a lens of model_i. Received: None")
        return _expose_model_i(model, lens.exposure_time_s, rng)
    if noise:
        return model + _instrument_noise(lens, model, rng)
    return 2.0 * model


def render_smooth(lens: Lens, noise: bool = False) -> np.ndarray:
    """Return the image of the same lens without its substructure; see `render_image`.

    `render_image(lens) - render_smooth(lens)` is the effect of the substructure on the image.
    """
    return render_image(without_substructure(lens), noise)


def render_model(lens: Lens) -> np.ndarray:
    """Return the lensed source convolved with the PSF, without noise and not doubled.

    Returns:
        float64 image of shape (height, width), in counts per second.
    """
    instrument = instrument_for(lens.preset, len(lens.substructure))
    light = source_light(lens, instrument.amplitude)
    return instrument.image_model.image(deflectors(lens), light)


def deflectors(lens: Lens) -> list[dict[str, float]]:
    """Return the lens as lenstronomy's keyword arguments: ellipsoid, shear, point masses."""
    halo = {
        "theta_E": einstein_radius_arcsec(lens.halo_mass_solar),
        "e1": lens.halo_e1,
        "e2": lens.halo_e2,
        "center_x": 0.0,
        "center_y": 0.0,
    }
    shear = {"gamma1": lens.shear_gamma1, "gamma2": lens.shear_gamma2}
    points = [
        {
            "theta_E": einstein_radius_arcsec(point.mass_solar),
            "center_x": point.x_arcsec,
            "center_y": point.y_arcsec,
        }
        for point in lens.substructure
    ]
    return [halo, shear, *points]


def source_light(lens: Lens, amplitude: float) -> list[dict[str, float]]:
    """Return the source as lenstronomy's keyword arguments: an elliptical exponential profile.

    Args:
        lens: contains the position of the source.
        amplitude: surface brightness at the half-light radius.
    """
    centre = {"center_x": lens.source_x_arcsec, "center_y": lens.source_y_arcsec}
    return [{"amp": amplitude, **SOURCE_SHAPE, **centre}]


@lru_cache(maxsize=16)
def instrument_for(preset: str, point_masses: int) -> Instrument:
    """Return a preset's instrument. Cached, because building one takes longer than an image.

    Args:
        preset: one of `deeplens_tf.simulation.priors.PRESETS`.
        point_masses: number of point masses, in addition to the main halo and the shear.
    """
    ensure_compiled_cache()
    # Imported here because lenstronomy takes seconds to load.
    from lenstronomy.SimulationAPI.sim_api import SimAPI

    simulation = SimAPI(
        numpix=IMAGE_PIXELS[preset],
        kwargs_single_band=_band(preset),
        kwargs_model={
            "lens_model_list": ["SIE", "SHEAR"] + ["POINT_MASS"] * point_masses,
            "source_light_model_list": ["SERSIC_ELLIPSE"],
        },
    )
    # Set by hand, because lenstronomy 1.13.6 fails to compute this factor with astropy 8.
    simulation.lens_model_class.lens_model.change_redshift_scaling(deflection_scale(preset))
    image_model = simulation.image_model_class({"point_source_supersampling_factor": 1})
    return Instrument(simulation, image_model, _amplitude(preset, simulation))


@lru_cache(maxsize=len(PRESETS))
def deflection_scale(preset: str) -> float:
    """Return the factor by which a preset multiplies all deflections.

    In Models II and III it is D_LS / D_S of the source, divided by D_LS / D_S at redshift 2.5. In
    a flat universe D_LS / D_S is 1 - chi_L / chi_S, with comoving distances chi. The cosmology is
    pyHalo's, which DeepLenseSim uses for this factor only.

    Raises:
        RequestError: `preset` is unknown.
    """
    from astropy.cosmology import FlatLambdaCDM

    require_known("preset", preset, PRESETS)
    if preset == "model_i":
        return 1.0
    distance = FlatLambdaCDM(H0=69.7, Om0=0.2814, Ob0=0.0464).comoving_distance
    to_source, to_convention = (
        float(1.0 - distance(LENS_REDSHIFT) / distance(redshift))
        for redshift in (SOURCE_REDSHIFT, CONVENTION_REDSHIFT)
    )
    return to_source / to_convention


def _band(preset: str) -> dict[str, Any]:
    ensure_compiled_cache()
    from lenstronomy.SimulationAPI.ObservationConfig.Euclid import Euclid
    from lenstronomy.SimulationAPI.ObservationConfig.HST import HST

    require_known("preset", preset, PRESETS)
    if preset == "model_i":
        return MODEL_I_BAND
    if preset == "model_ii":
        return Euclid(band="VIS", psf_type="GAUSSIAN", coadd_years=6).kwargs_single_band()
    hubble = HST(band="WFC3_F160W", psf_type="GAUSSIAN").kwargs_single_band()
    return hubble | {"seeing": MODEL_III_SEEING_ARCSEC}


def _amplitude(preset: str, simulation: "SimAPI") -> float:
    if preset == "model_i":
        return MODEL_I_AMPLITUDE
    by_magnitude = [{"magnitude": SOURCE_MAGNITUDE, **SOURCE_SHAPE}]
    _, light, _ = simulation.magnitude2amplitude(None, by_magnitude)
    return light[0]["amp"]


def _instrument_noise(lens: Lens, model: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Not lenstronomy's noise_for_model, which draws from NumPy's global state.
    band = instrument_for(lens.preset, len(lens.substructure)).simulation
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
