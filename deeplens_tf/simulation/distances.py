"""Distances in a flat universe of matter and a cosmological constant, without radiation."""

import numpy as np


def comoving_distance(redshift: float, omega_matter: float) -> float:
    """Return the comoving distance to a redshift, in units of c / H0.

    The integral of 1 / E(z) from 0 to the redshift (Hogg 1999, eq. 14 and 15), by Gauss-Legendre
    quadrature, exact to rounding up to redshift 3. Astropy gives the same, but takes a second or
    two to load.

    Args:
        redshift: from 0 to 3.
        omega_matter: density of matter today, in units of the critical density.
    """
    nodes, weights = np.polynomial.legendre.leggauss(32)
    z = 0.5 * redshift * (nodes + 1.0)
    e_squared = omega_matter * (1.0 + z) ** 3 + 1.0 - omega_matter
    return float(0.5 * redshift * np.sum(weights / np.sqrt(e_squared)))
