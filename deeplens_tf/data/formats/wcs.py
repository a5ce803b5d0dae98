"""The pixel scale that the header of a FITS image states, by its world coordinate system."""

import math
import re

from deeplens_tf.data.formats.fits_headers import Hdu

MAX_SIDE_DIFFERENCE = 0.02  # of the two sides of a pixel that counts as a square
_ARCSEC = {"": 3600.0, "deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0}
_CELESTIAL = re.compile(r"(RA|DEC|[A-Z]LON|[A-Z]LAT)-+[A-Z0-9]{3}(-SIP)?")


def pixel_scale_arcsec(hdu: Hdu) -> float | None:
    """Return the side of a pixel in arcsec, None if the header has no scale of square pixels.

    It is the root of the area of a pixel in the plane of projection, |det M|, where M is the matrix
    CDi_j, or CDELTi x PCi_j (Greisen and Calabretta 2002, A&A 395, 1061, section 2.1).

    Args:
        hdu: of an image whose first two axes are those of the sky.

    Raises:
        UnusableFile: a keyword of the matrix is not a number.
    """
    if not all(_CELESTIAL.fullmatch(hdu.text(f"CTYPE{axis}")) for axis in (1, 2)):
        return None
    units = [_ARCSEC.get(hdu.text(f"CUNIT{axis}").lower()) for axis in (1, 2)]
    if None in units:
        return None
    rows = [
        [unit * value for value in row]
        for unit, row in zip(units, _matrix(hdu), strict=True)
        if unit is not None
    ]
    (a, b), (c, d) = rows
    sides = math.hypot(a, c), math.hypot(b, d)
    area = abs(a * d - b * c)
    if not area or abs(sides[0] - sides[1]) > MAX_SIDE_DIFFERENCE * max(sides):
        return None
    return math.sqrt(area)


def _matrix(hdu: Hdu) -> list[list[float]]:
    if any(f"CD{i}_{j}" in hdu.values for i in (1, 2) for j in (1, 2)):
        return [[hdu.number_of(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    return [
        [
            hdu.number_of(f"CDELT{i}", 1.0) * hdu.number_of(f"PC{i}_{j}", float(i == j))
            for j in (1, 2)
        ]
        for i in (1, 2)
    ]
