"""An image as the bytes of a FITS file, which depend on nothing but the image and its header."""

import io
from collections.abc import Sequence

import numpy as np

Card = tuple[str, str | float, str]  # keyword, value, comment


def fits_content(image: np.ndarray, cards: Sequence[Card]) -> bytes:
    """Return a FITS file whose primary HDU is an image, with checksums.

    Args:
        image: floating-point array of shape (height, width) or (bands, height, width).
        cards: of the header, beside those that describe the array.
    """
    # Imported here because astropy takes long to load.
    from astropy.io import fits

    hdu = fits.PrimaryHDU(image, fits.Header(cards))
    # The comment would be the time of writing.
    hdu.add_checksum(when="of the header and the data")
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()
