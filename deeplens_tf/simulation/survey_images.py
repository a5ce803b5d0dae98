"""Images of the simulated survey, drawn by lenstronomy in each band."""

from functools import lru_cache
from typing import Any

import numpy as np

from deeplens_tf.simulation.compiled_cache import ensure_compiled_cache
from deeplens_tf.simulation.survey_bands import DEFAULT_BANDS, SURVEY_BANDS, SURVEY_PIXELS
from deeplens_tf.simulation.survey_scenes import Deflector, Scene, SersicLight

# Points along each side of a pixel at which light is evaluated. Between them the smallest bulge of
# the priors loses 2 % of its flux; with 9 points it loses 0.4 %, in 20 times the time.
SUPERSAMPLING = 3
_LENS_MODELS = ("SIE", "SHEAR")
_LIGHT_MODEL = "SERSIC_ELLIPSE"


def render_scene(
    scene: Scene, bands: tuple[str, ...] = DEFAULT_BANDS, noise: bool = True
) -> np.ndarray:
    """Return the image of a scene, from which the mean of the sky is subtracted.

    Args:
        scene: parameters, from `deeplens_tf.simulation.survey_scenes.draw_scene`.
        bands: of `SURVEY_BANDS`, in the order of the image.
        noise: add the noise of sky, read-out and photons. That of a band does not depend on the
            other bands.

    Returns:
        float64 image of shape (bands, height, width), in electrons per second.
    """
    return np.stack([_render_band(scene, band, noise) for band in bands])


def _render_band(scene: Scene, band: str, noise: bool) -> np.ndarray:
    image = _unlensed_light((*scene.galaxy, *scene.others), band)
    if scene.deflector is not None and scene.source is not None:
        image = image + _lensed_light(scene.source, scene.deflector, band)
    return image + _noise(scene, band, image) if noise else image


def _unlensed_light(lights: tuple[SersicLight, ...], band: str) -> np.ndarray:
    simulation, drawing = _lenstronomy(band, lights=len(lights))
    profiles = [_profile(light) | {"magnitude": light.magnitudes[band]} for light in lights]
    amplitudes, _, _ = simulation.magnitude2amplitude(profiles)
    return drawing.lens_surface_brightness(amplitudes)


def _lensed_light(source: SersicLight, deflector: Deflector, band: str) -> np.ndarray:
    simulation, drawing = _lenstronomy(band, sources=1)
    ellipsoid = {"theta_E": deflector.theta_e_arcsec, "e1": deflector.e1, "e2": deflector.e2}
    shear = {"gamma1": deflector.shear_gamma1, "gamma2": deflector.shear_gamma2}
    image = drawing.source_surface_brightness(
        [_profile(source) | {"amp": 1.0}],
        [ellipsoid | {"center_x": 0.0, "center_y": 0.0}, shear],
    )
    # The magnitude is that of the images, so the source is as bright as their magnification asks.
    return image * (simulation.magnitude2cps(source.magnitudes[band]) / image.sum())


def _noise(scene: Scene, band: str, image: np.ndarray) -> np.ndarray:
    # Not lenstronomy's noise_for_model, which draws from NumPy's global state.
    key = list(SURVEY_BANDS).index(band)
    rng = np.random.default_rng(np.random.SeedSequence(scene.noise_seed, spawn_key=(key,)))
    simulation, _ = _lenstronomy(band, sources=1)
    background = simulation.background_noise * rng.standard_normal(image.shape)
    return background + simulation.flux_noise(image) * rng.standard_normal(image.shape)


def _profile(light: SersicLight) -> dict[str, float]:
    return {
        **{"R_sersic": light.radius_arcsec, "n_sersic": light.index, "e1": light.e1},
        **{"e2": light.e2, "center_x": light.x_arcsec, "center_y": light.y_arcsec},
    }


@lru_cache(maxsize=64)
def _lenstronomy(band: str, lights: int = 0, sources: int = 0) -> tuple[Any, Any]:
    """Return lenstronomy's simulation of a band and its renderer, for a number of profiles."""
    ensure_compiled_cache()
    # Imported here because lenstronomy takes seconds to load.
    from lenstronomy.SimulationAPI.sim_api import SimAPI

    models = {
        "lens_model_list": list(_LENS_MODELS),
        "source_light_model_list": [_LIGHT_MODEL] * sources,
        "lens_light_model_list": [_LIGHT_MODEL] * lights,
    }
    simulation = SimAPI(SURVEY_PIXELS, SURVEY_BANDS[band], models)
    return simulation, simulation.image_model_class({"supersampling_factor": SUPERSAMPLING})
