"""Digests of the pixels of a source image: whether two files contain the same image."""

import hashlib

import numpy as np

_SINGLE = np.finfo(np.float32)
_ROWS = 64  # of an image, at once: the largest image would take four times its memory


def content_digest(image: np.ndarray) -> str:
    """Return the SHA-256 of an image's values, whatever the file's byte order, type or axis order.

    Values are rounded to the 24 significant bits of float32, so that an image and its copy in
    float32 have the same digest; those beyond the range of float32 are not changed by that.

    Args:
        image: (height, width, bands), as it was read: before bands are left out, before cropping,
            resizing and scaling.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(tuple(image.shape)).encode())
    for first in range(0, len(image), _ROWS):
        values = _rounded(np.ascontiguousarray(image[first : first + _ROWS], np.float64))
        digest.update(values.astype("<f8", copy=False).data)
    return digest.hexdigest()


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return values rounded to 24 bits, and -0.0 as 0.0."""
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
    size = np.abs(single)
    # Between these, float32 has the 24 bits; the least one may stand for a number below it.
    if size.min() > _SINGLE.tiny and size.max() <= _SINGLE.max:
        return single.astype(np.float64)
    if (((size > _SINGLE.tiny) & (size <= _SINGLE.max)) | (values == 0)).all():
        return single.astype(np.float64) + 0.0
    values = np.where(np.isnan(values), np.nan, values)  # whose bits depend on how it arose
    mantissa, exponent = np.frexp(values)
    with np.errstate(over="ignore"):  # the largest float64 values become infinite
        return np.ldexp(np.rint(np.ldexp(mantissa, 24)), exponent - 24) + 0.0


def typed_digest(image: np.ndarray) -> bytes:
    """Return the digest of an image with its data type, as every version has written it.

    Runs record it of their splits; a run of an earlier version is resumed only if it is equal.
    """
    digest = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
