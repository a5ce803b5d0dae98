"""`images.yaml`: the pixel scale and the band of simulated images, which the stages read."""

from deeplens_tf.files.atomic_writing import create_whole
from deeplens_tf.simulation.render import pixel_scale_arcsec
from deeplens_tf.simulation.request import SimulationRequest

IMAGES_FILE = "images.yaml"
# Model I has no instrument's filter.
BAND_NAMES = {"model_ii": "VIS", "model_iii": "F160W"}


def write_properties(request: SimulationRequest) -> None:
    """Write the properties of a request's images into its folder, unless they are there."""
    preset = request.preset
    lines = [f"pixel_scale_arcsec: {pixel_scale_arcsec(preset):.6g}"]
    if preset in BAND_NAMES:
        lines.append(f"band_names: [{BAND_NAMES[preset]}]")
    create_whole(request.folder / IMAGES_FILE, ("\n".join(lines) + "\n").encode())
