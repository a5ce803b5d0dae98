"""Deflection angles of a lens: an isothermal ellipsoid, an external shear, point masses.

In arcsec, as angles in the lens plane; `deeplens_tf.simulation.render` scales them to the source.
"""

import numpy as np

from deeplens_tf.simulation.priors import (
    Lens,
    einstein_radius_arcsec,
    einstein_radius_squared_per_solar_mass,
)

# Those of lenstronomy, so that images agree: a core instead of a singularity, and the largest axis
# ratio, because the formula divides by zero for a circle.
CORE_ARCSEC = 1e-10
LARGEST_AXIS_RATIO = 0.99999999
# Far below any distance: a ray through a point mass isn't deflected, instead of undefined.
SMALLEST_DISTANCE_SQUARED = 1e-50


def smooth_deflection(lens: Lens, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the deflection by the main halo and the shear.

    Args:
        lens: its substructure and source have no influence.
        x: positions in arcsec.
        y: positions in arcsec, of a shape that broadcasts with that of x, as do all positions here.

    Returns:
        Shape (2, ...): the x and y components, in arcsec, at the broadcast positions.
    """
    theta_e_arcsec = einstein_radius_arcsec(lens.halo_mass_solar)
    halo = isothermal_ellipsoid(x, y, theta_e_arcsec, lens.halo_e1, lens.halo_e2)
    return halo + shear(x, y, lens.shear_gamma1, lens.shear_gamma2)


def substructure_deflection(lens: Lens, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the deflection by the point masses, shape (2, ...), in arcsec."""
    masses_solar, xs, ys = np.array(lens.substructure).reshape(-1, 3).T
    return point_masses(x, y, masses_solar * einstein_radius_squared_per_solar_mass(), xs, ys)


def isothermal_ellipsoid(
    x: np.ndarray, y: np.ndarray, theta_e_arcsec: float, e1: float, e2: float
) -> np.ndarray:
    """Return the deflection by an isothermal ellipsoid at the origin, shape (2, ...), in arcsec.

    Keeton & Kochanek (1998), after eq. 8, with the Einstein radius of lenstronomy's SIE: that of
    the product of the axes.

    Args:
        x: positions in arcsec.
        y: positions in arcsec.
        theta_e_arcsec: Einstein radius.
        e1: ellipticity; (1 - q) / (1 + q) is its length for an axis ratio q.
        e2: ellipticity.
    """
    angle_rad, length = 0.5 * np.arctan2(e2, e1), np.hypot(e1, e2)
    axis_ratio = (1.0 - length) / (1.0 + length)
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    major, minor = cosine * x + sine * y, cosine * y - sine * x
    q, core = min(axis_ratio, LARGEST_AXIS_RATIO), CORE_ARCSEC / np.sqrt(axis_ratio)
    root = np.sqrt(1.0 - q**2)
    psi = np.sqrt(q**2 * (core**2 + major**2) + minor**2)
    along = np.arctan(root * major / (psi + core))
    across = np.arctanh(root * minor / (psi + q**2 * core))
    turned = np.stack([cosine * along - sine * across, sine * along + cosine * across])
    return theta_e_arcsec * np.sqrt(axis_ratio) / root * turned


def shear(x: np.ndarray, y: np.ndarray, gamma1: float, gamma2: float) -> np.ndarray:
    """Return the deflection by an external shear about the origin, shape (2, ...), in arcsec."""
    return np.stack([gamma1 * x + gamma2 * y, gamma2 * x - gamma1 * y])


def point_masses(
    x: np.ndarray, y: np.ndarray, theta_e_squared: np.ndarray, xs: np.ndarray, ys: np.ndarray
) -> np.ndarray:
    """Return the deflection by all point masses together, shape (2, ...), in arcsec.

    Each deflects by theta_E^2 / distance, away from itself in the sense of the lens equation.

    Args:
        x: positions in arcsec; of shape (1, width) on a grid, which saves time.
        y: positions in arcsec; of shape (height, 1) on a grid.
        theta_e_squared: squared Einstein radii in arcsec^2, shape (masses,).
        xs: centres of the masses in arcsec, shape (masses,).
        ys: centres of the masses in arcsec, shape (masses,).
    """
    dx, dy = x[..., np.newaxis] - xs, y[..., np.newaxis] - ys
    strength = dx**2 + (dy**2 + SMALLEST_DISTANCE_SQUARED)  # (..., masses)
    # In place: a second array of this size costs more time in the kernel than the rest.
    np.divide(theta_e_squared, strength, out=strength)
    # Not a matrix product, whose last bits depend on the number of threads.
    return np.stack([np.einsum("...k,...k->...", strength, each) for each in (dx, dy)])
