"""The instrument of the simulated survey: the Dark Energy Camera, three years of coadded images.

The constants are those of lenstronomy's `SimulationAPI.ObservationConfig.DES`, which names its
sources. The bands differ in the width of the PSF, in the sky and in the zero point.
"""

from typing import Any

SURVEY_PIXELS = 64
SURVEY_PIXEL_SCALE_ARCSEC = 0.263
# What the bands share, in lenstronomy's words; read-out noise is in electrons, times in seconds.
_CAMERA = {
    **{"pixel_scale": SURVEY_PIXEL_SCALE_ARCSEC, "read_noise": 7.0, "num_exposures": 10},
    **{"psf_type": "GAUSSIAN", "ccd_gain": 4.0},
}
# `seeing` is the FWHM of the PSF in arcsec, `sky_brightness` in magnitudes per square arcsec; a
# source of `magnitude_zero_point` gives one electron per second.
SURVEY_BANDS: dict[str, dict[str, Any]] = {
    band: {
        **_CAMERA,
        **{"exposure_time": exposure_time, "sky_brightness": sky, "seeing": seeing},
        "magnitude_zero_point": zero_point,
    }
    for band, exposure_time, sky, zero_point, seeing in (
        ("g", 90.0, 22.01, 26.58, 1.12),
        ("r", 90.0, 21.15, 26.78, 0.96),
        ("i", 90.0, 19.89, 26.75, 0.88),
        ("z", 90.0, 18.72, 26.48, 0.84),
        ("Y", 45.0, 17.96, 25.40, 0.9),
    )
}
DEFAULT_BANDS = ("g", "r", "i")
