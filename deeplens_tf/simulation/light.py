"""The light of a source, and what the instrument's PSF makes of it."""

import numpy as np

# b of lenstronomy's Sersic profile, 1.9992 n - 0.3271, for the index n = 1 of an exponential.
SERSIC_B = 1.9992 - 0.3271
# As in lenstronomy, the profile is flat within this radius.
FLAT_CENTRE_ARCSEC = 1e-4
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def exponential_profile(
    x: np.ndarray, y: np.ndarray, radius_arcsec: float, e1: float, e2: float
) -> np.ndarray:
    """Return an elliptical exponential profile, in units of that at the half-light radius.

    exp(-b (R / radius - 1)), where R is the elliptical distance from the centre, of unit product of
    its axes.

    Args:
        x: distances from the centre in arcsec.
        y: distances from the centre in arcsec, of the same shape.
        radius_arcsec: half-light radius.
        e1: ellipticity.
        e2: ellipticity.
    """
    norm = np.sqrt(1.0 - e1**2 - e2**2)
    along = (1.0 - e1) / norm * x - e2 / norm * y
    across = (1.0 + e1) / norm * y - e2 / norm * x
    distance = np.maximum(np.sqrt(along**2 + across**2), FLAT_CENTRE_ARCSEC)
    return np.exp(SERSIC_B - SERSIC_B / radius_arcsec * distance)


def exponential_flux(radius_arcsec: float) -> float:
    """Return the integral of `exponential_profile` over the sky, in arcsec^2."""
    return float(2.0 * np.pi * radius_arcsec**2 * np.exp(SERSIC_B) / SERSIC_B**2)


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
