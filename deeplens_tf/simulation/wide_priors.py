"""Priors that are wider than the published ones, of halo and shear and of the source.

They replace what all lenses of `deeplens_tf.simulation.priors` have in common. They are chosen, and
not fitted to any population.
"""

from dataclasses import replace

import numpy as np

from deeplens_tf.simulation.priors import Lens

WIDE_HALO_MASS_LOG10_SOLAR = (11.85, 12.1)
# Standard deviations of each component, around zero.
WIDE_ELLIPTICITY = 0.1
WIDE_SHEAR = 0.04

WIDE_SOURCE_RADIUS_ARCSEC = (0.15, 0.4)
WIDE_SOURCE_INDEX = (0.5, 4.0)
# Standard deviation of each component, and the largest length of both, an axis ratio of 1/3.
WIDE_SOURCE_ELLIPTICITY = 0.15
LARGEST_SOURCE_ELLIPTICITY = 0.5


def with_wide_halo(lens: Lens, rng: np.random.Generator) -> Lens:
    """Return a lens with another halo and shear, drawn from the wide prior.

    The mass is log-uniform between 10^11.85 and 10^12.1 solar masses. Both components of the
    ellipticity are normal around 0 with a standard deviation of 0.1, those of the shear with 0.04.

    Args:
        lens: its source and substructure are kept.
        rng: the only source of randomness.
    """
    e1, e2 = rng.normal(0.0, WIDE_ELLIPTICITY, 2).tolist()
    gamma1, gamma2 = rng.normal(0.0, WIDE_SHEAR, 2).tolist()
    return replace(
        lens,
        halo_mass_solar=float(10 ** rng.uniform(*WIDE_HALO_MASS_LOG10_SOLAR)),
        halo_e1=e1,
        halo_e2=e2,
        shear_gamma1=gamma1,
        shear_gamma2=gamma2,
    )


def with_wide_source(lens: Lens, rng: np.random.Generator) -> Lens:
    """Return a lens whose source has another size, index and shape, drawn from the wide prior.

    The half-light radius is log-uniform between 0.15 and 0.4 arcsec, the Sérsic index uniform
    between 0.5 and 4. Both components of the ellipticity are normal around 0 with a standard
    deviation of 0.15, among those whose length is at most 0.5.

    Args:
        lens: the position of its source is kept, as is all else.
        rng: the only source of randomness.
    """
    e1, e2 = _bounded_normal_pair(rng, WIDE_SOURCE_ELLIPTICITY, LARGEST_SOURCE_ELLIPTICITY)
    return replace(
        lens,
        source_radius_arcsec=float(np.exp(rng.uniform(*np.log(WIDE_SOURCE_RADIUS_ARCSEC)))),
        source_index=float(rng.uniform(*WIDE_SOURCE_INDEX)),
        source_e1=e1,
        source_e2=e2,
    )


def _bounded_normal_pair(
    rng: np.random.Generator, deviation: float, largest: float
) -> tuple[float, float]:
    # The length follows a Rayleigh distribution, of which the tail is cut off.
    tail = np.exp(-0.5 * (largest / deviation) ** 2)
    length = deviation * np.sqrt(-2.0 * np.log(1.0 - rng.uniform() * (1.0 - tail)))
    angle_rad = rng.uniform(0.0, 2.0 * np.pi)
    return float(length * np.cos(angle_rad)), float(length * np.sin(angle_rad))
