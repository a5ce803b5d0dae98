"""`images.yaml`: the pixel scale and the bands of simulated images, which the stages read."""

from deeplens_tf.files.atomic_writing import create_whole
from deeplens_tf.simulation.render import pixel_scale_arcsec
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.survey_bands import SURVEY_PIXEL_SCALE_ARCSEC

IMAGES_FILE = "images.yaml"
# Model I has no instrument's filter.
BAND_NAMES = {"model_ii": ("VIS",), "model_iii": ("F160W",)}


def write_properties(request: SimulationRequest) -> None:
    """Write the properties of a request's images into its folder, unless they are there."""
    lines = [f"pixel_scale_arcsec: {scale_of(request):.6g}"]
    if bands := bands_of(request):
        lines.append(f"band_names: [{', '.join(bands)}]")
    create_whole(request.folder / IMAGES_FILE, ("\n".join(lines) + "\n").encode())


def scale_of(request: SimulationRequest) -> float:
    """Return the side of the pixels of a request's images, in arcsec."""
    return SURVEY_PIXEL_SCALE_ARCSEC if request.is_survey else pixel_scale_arcsec(request.preset)


def bands_of(request: SimulationRequest) -> tuple[str, ...]:
    """Return the names of the bands of a request's images; none for Model I."""
    return request.bands if request.is_survey else BAND_NAMES.get(request.preset, ())
