"""The light of a source, and what the instrument's PSF makes of it."""

import math
from functools import lru_cache

import numpy as np

# As in lenstronomy, the profile is flat within this radius.
FLAT_CENTRE_ARCSEC = 1e-4
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def sersic_profile(
    x: np.ndarray, y: np.ndarray, radius_arcsec: float, index: float, e1: float, e2: float
) -> np.ndarray:
    """Return an elliptical Sérsic profile, in units of that at the half-light radius.

    exp(-b ((R / radius)^(1 / n) - 1)), where R is the elliptical distance from the centre, of unit
    product of its axes, and n the index.

    Args:
        x: distances from the centre in arcsec.
        y: distances from the centre in arcsec, of the same shape.
        radius_arcsec: half-light radius.
        index: Sérsic index, from 0.5 to 10; 1 is an exponential.
        e1: ellipticity.
        e2: ellipticity.
    """
    norm = np.sqrt(1.0 - e1**2 - e2**2)
    along = (1.0 - e1) / norm * x - e2 / norm * y
    across = (1.0 + e1) / norm * y - e2 / norm * x
    distance = np.maximum(np.sqrt(along**2 + across**2), FLAT_CENTRE_ARCSEC)
    b, power = sersic_b(index), 1.0 / index
    # The distance itself in an exponential: a power takes as long as all the rest.
    powers = distance if index == 1.0 else distance**power
    return np.exp(b - b / radius_arcsec**power * powers)


def sersic_flux(radius_arcsec: float, index: float) -> float:
    """Return the integral of `sersic_profile` over the sky, in arcsec^2."""
    b = sersic_b(index)
    of_exponential = 2.0 * np.pi * radius_arcsec**2 * np.exp(b) / b ** (2.0 * index)
    return float(of_exponential * (index * math.gamma(2.0 * index)))


def sersic_b(index: float) -> float:
    """Return the constant that makes the radius of a Sérsic profile contain half of its light.

    1.9992 n - 0.3271, lenstronomy's approximation, for an index n from 0.5 to 10.
    """
    return 1.9992 * index - 0.3271


# Cached: under the usual sky, all images of an instrument have one.
@lru_cache(maxsize=8)
def gaussian_kernel(fwhm_pixels: float, truncation: float) -> np.ndarray:
    """Return a Gaussian that is sampled at whole pixels, of odd length and sum 1.

    Args:
        fwhm_pixels: full width at half maximum.
        truncation: distance, in standard deviations, at which it is cut.
    """
    sigma_pixels = fwhm_pixels / FWHM_PER_SIGMA
    reach = int(truncation * sigma_pixels + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_pixels) ** 2)
    return weights / weights.sum()


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve the columns and the rows of an image with a kernel of odd length.

    The outermost pixels are continued beyond the edge.
    """
    reach = len(kernel) // 2
    for _ in range(2):
        image = image.T
        width = image.shape[1]
        padded = image.take(np.arange(-reach, width + reach), axis=1, mode="clip")
        # All rows in one call; what runs over from row to row falls on the padding.
        rows = np.convolve(padded.ravel(), kernel, mode="same").reshape(padded.shape)
        image = rows[:, reach : reach + width]
    return image
