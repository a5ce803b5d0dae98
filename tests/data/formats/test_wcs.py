"""The pixel scale of FITS headers, beside astropy's."""

import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

from deeplens_tf.data.formats.fits_headers import read_hdus
from deeplens_tf.data.formats.wcs import pixel_scale_arcsec
from deeplens_tf.errors import UnusableFile

TAN = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0}
STEP = 0.2 / 3600
COS, SIN = math.cos(0.4) * STEP, math.sin(0.4) * STEP


def read_scale(tmp_path, cards, compress=False, shape=(20, 20)):
    """Return the scale that is read, and astropy's from the same file."""
    header = fits.Header(list(cards.items()))
    image = np.arange(math.prod(shape), dtype="f4").reshape(shape)
    hdus = [fits.PrimaryHDU(image, header)]
    if compress:
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(image, header)]
    path = tmp_path / "x.fits"
    fits.HDUList(hdus).writeto(path)
    with path.open("rb") as stream:
        *_, hdu = read_hdus(stream)
        found = pixel_scale_arcsec(hdu)
    wcs = WCS(fits.getheader(path, 1 if compress else 0), naxis=2)
    return found, 3600 * math.sqrt(proj_plane_pixel_area(wcs)) if wcs.has_celestial else None


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "matrix",
    [
        {"CDELT1": -STEP, "CDELT2": STEP},
        {"CDELT1": -STEP, "CDELT2": STEP, "CROTA2": 30.0},
        {"CD1_1": -COS, "CD1_2": SIN, "CD2_1": SIN, "CD2_2": COS},
        {"CD1_1": -STEP, "CD2_2": STEP},
        {"CDELT1": -STEP, "CDELT2": STEP, "PC1_1": 0.6, "PC1_2": -0.8, "PC2_1": 0.8, "PC2_2": 0.6},
        {"CDELT1": -0.2, "CDELT2": 0.2, "CUNIT1": "arcsec", "CUNIT2": "arcsec"},
        {"CDELT1": -0.2 / 60, "CDELT2": 0.2 / 60, "CUNIT1": "arcmin", "CUNIT2": "arcmin"},
    ],
)
def test_the_scale_is_astropys(tmp_path, matrix, compress):
    found, expected = read_scale(tmp_path, TAN | matrix, compress)
    assert found == pytest.approx(expected, rel=1e-9) == pytest.approx(0.2, rel=1e-9)


def test_of_a_cube_the_axes_of_the_sky_count(tmp_path):
    cards = TAN | {"CDELT1": -STEP, "CDELT2": STEP, "CTYPE3": "WAVE", "CDELT3": 1e-7}
    assert read_scale(tmp_path, cards, shape=(3, 20, 20))[0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CDELT1": STEP, "CDELT2": STEP},  # of no sky
        TAN | {"CTYPE1": "WAVE"},
        TAN | {"CDELT1": STEP, "CDELT2": 2 * STEP},  # not square
        TAN | {"CD1_1": STEP},  # singular
        TAN | {"CUNIT1": "m", "CDELT1": STEP, "CDELT2": STEP},
    ],
)
def test_without_square_pixels_of_the_sky_it_is_unknown(tmp_path, cards):
    header = fits.Header(list(cards.items()))
    path = tmp_path / "x.fits"
    fits.PrimaryHDU(np.ones((20, 20), "f4"), header).writeto(path)
    with path.open("rb") as stream:
        assert pixel_scale_arcsec(next(iter(read_hdus(stream)))) is None


def test_a_matrix_of_other_than_numbers_is_refused(tmp_path):
    path = tmp_path / "x.fits"
    fits.PrimaryHDU(np.ones((20, 20), "f4"), fits.Header([*TAN.items(), ("CD1_1", "x")])).writeto(
        path
    )
    with path.open("rb") as stream, pytest.raises(UnusableFile, match="CD1_1 is"):
        pixel_scale_arcsec(next(iter(read_hdus(stream))))
