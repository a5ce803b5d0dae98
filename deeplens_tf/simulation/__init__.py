"""Simulated images of strong lenses: priors, rendering, and the files they are written to."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CLASSES": "priors",
        "KNOWN_PRESETS": "request",
        "PRESETS": "priors",
        "SURVEY_CLASSES": "survey_scenes",
        "Lens": "priors",
        "Scene": "survey_scenes",
        "SimulationOutcome": "generation",
        "SimulationRequest": "request",
        "Sky": "skies",
        "deflection_scale": "render",
        "draw_lens": "priors",
        "draw_scene": "survey_scenes",
        "einstein_radius_arcsec": "priors",
        "pixel_scale_arcsec": "render",
        "render_image": "render",
        "render_scene": "survey_images",
        "render_smooth": "render",
        "simulate": "generation",
        "vortex": "priors",
        "vortex_length_arcsec": "priors",
    },
)
