"""The content of the file of a simulated image: plain `.npy`, or FITS."""

import io
from functools import cache

import numpy as np

from deeplens_tf.simulation.fits_content import Card, fits_content
from deeplens_tf.simulation.properties_file import bands_of, scale_of
from deeplens_tf.simulation.render import image_shape, render_image
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.survey_bands import SURVEY_BANDS, SURVEY_PIXELS
from deeplens_tf.simulation.survey_images import render_scene


def file_content(request: SimulationRequest, class_name: str, index: int, view: int = 0) -> bytes:
    """Render an image and return its file: float32 for the survey, else float64."""
    image = rendered_image(request, class_name, index, view).astype(_type_of(request), copy=False)
    return _encoded(image, request, class_name, index)


def complete_size(request: SimulationRequest) -> int:
    """Return the size of each of the request's files, in bytes."""
    bands = (len(request.bands),) if request.is_survey else ()
    side = (SURVEY_PIXELS, SURVEY_PIXELS) if request.is_survey else image_shape(request.preset)
    empty = np.zeros((*bands, *side), _type_of(request))
    return len(_encoded(empty, request, request.classes[0], 0))


def rendered_image(
    request: SimulationRequest, class_name: str, index: int, view: int = 0
) -> np.ndarray:
    """Return an image of a request, float64: (height, width), of the survey with bands first."""
    if request.is_survey:
        return render_scene(request.scene(class_name, index), request.bands)
    return render_image(request.lens(class_name, index, view), request.noise)


def _type_of(request: SimulationRequest) -> np.dtype:
    return np.dtype("<f4" if request.is_survey else "<f8")


def _encoded(image: np.ndarray, request: SimulationRequest, class_name: str, index: int) -> bytes:
    if request.format == "npy":
        return _npy_header(image.shape, image.dtype) + image.tobytes()
    return fits_content(image, _cards(request, class_name, index))


def _cards(request: SimulationRequest, class_name: str, index: int) -> list[Card]:
    """Return the header of a FITS image. All files of a request have the same keywords."""
    bands = bands_of(request)
    cards: list[Card] = [
        ("OBJECT", request.object_name(class_name, index), "what the image shows"),
        ("BUNIT", _unit(request.preset), "unit of the pixels"),
        *((f"BAND{i}", band, "filter") for i, band in enumerate(bands, start=1)),
    ]
    if not request.is_survey:
        return [*cards, ("PIXSCALE", scale_of(request), "[arcsec] side of a pixel")]
    zero_points = [SURVEY_BANDS[band]["magnitude_zero_point"] for band in bands]
    cards += [
        (f"MAGZPT{i}", zero_point, f"[mag] of 1 electron/s in {band}")
        for i, (band, zero_point) in enumerate(zip(bands, zero_points, strict=True), start=1)
    ]
    return [*cards, *_sky_coordinates(request, class_name, index)]


def _unit(preset: str) -> str:
    # As `render_image` and `render_scene` return it.
    return {"model_i": "count", "sersic_survey": "electron/s"}.get(preset, "count/s")


def _sky_coordinates(request: SimulationRequest, class_name: str, index: int) -> list[Card]:
    scene = request.scene(class_name, index)
    centre, scale_deg = (SURVEY_PIXELS + 1) / 2, scale_of(request) / 3600.0
    return [
        ("RADESYS", "ICRS", "celestial reference system"),
        *(("CTYPE1", "RA---TAN", "gnomonic projection"), ("CTYPE2", "DEC--TAN", "")),
        *(("CUNIT1", "deg", ""), ("CUNIT2", "deg", "")),
        *(("CRPIX1", centre, "centre of the image"), ("CRPIX2", centre, "")),
        *(("CRVAL1", scene.ra_deg, "right ascension"), ("CRVAL2", scene.dec_deg, "declination")),
        *(("CDELT1", -scale_deg, "east is left"), ("CDELT2", scale_deg, "north is up")),
    ]


@cache
def _npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    # Once a shape, because NumPy takes longer for it than for the pixels.
    buffer = io.BytesIO()
    description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
