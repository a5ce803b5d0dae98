"""Priors of the DeepLense simulations: draws the parameters of a lens from a random generator.

The constants are those of DeepLenseSim (https://github.com/mwt5345/DeepLenseSim, MIT licence).
The three presets share the lens, the source and the substructure. They differ in the instrument,
which `deeplens_tf.simulation.render` defines, and only Model I draws an exposure time. DeepLenseSim
has one halo for all lenses and sources that differ in their position alone;
`deeplens_tf.simulation.wide_priors` has others.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.distances import comoving_distance

PRESETS = ("model_i", "model_ii", "model_iii")
CLASSES = ("axion", "cdm", "no_sub")
LENS_PRIORS = ("published", "wide")
SOURCE_PRIORS = ("published", "wide")
_SUBSTRUCTURE = ("substructure", "axion_mass_ev", "vortex_angle_rad")
_HALO = ("halo_mass_solar", "halo_e1", "halo_e2")
_SHEAR = ("shear_gamma1", "shear_gamma2")
# The parameters that the images of one lens can share: a choice of `shared` -> fields of `Lens`.
SHARED_FIELDS = {"lens": (*_SUBSTRUCTURE, *_HALO, *_SHEAR), "substructure": _SUBSTRUCTURE}

LENS_REDSHIFT = 0.5
SOURCE_REDSHIFT = 1.0
# DeepLenseSim's rounding of 648000 / pi = 206264.806.
ARCSEC_PER_RADIAN = 206265.0
OMEGA_MATTER = 0.3
HUBBLE_KM_S_MPC = 70.0
KM_PER_MPC = 149597870.7 * 648e6 / np.pi * 1000.0
LIGHT_KM_S = 299792.458
# The Sun's G M, of which the IAU fixed the value in 2015.
SOLAR_GM_KM3_S2 = 1.3271244e11

SOURCE_OFFSET_ARCSEC = 0.35

AXION_MASS_LOG10_EV = (-24.0, -22.0)
VORTEX_MASS_SOLAR = 3e10
VORTEX_ELEMENTS = 100

SUBHALO_COUNT = 25
SUBHALO_MASS_SOLAR = (1e6, 1e10)
# DeepLenseSim's docstring states -1.9, but its code and the published images use -0.9.
SUBHALO_MASS_SLOPE = -0.9
SUBHALO_RADIUS_ARCSEC = (0.25, 2.0)

EXPOSURE_LOG10_S = (3.0, 3.5)


class PointMass(NamedTuple):
    """A point mass of substructure in the lens plane."""

    mass_solar: float
    x_arcsec: float
    y_arcsec: float


@dataclass(frozen=True)
class Lens:
    """The parameters of one image; the same lens always gives the same image.

    Attributes:
        preset: one of `PRESETS`; selects the instrument and the scale of the deflections.
        class_name: one of `CLASSES`.
        source_x_arcsec: centre of the source; the lens is at the origin.
        source_y_arcsec: centre of the source; as all positions it is one relative to the lens.
        substructure: point masses in addition to the main halo.
        axion_mass_ev: mass of the axion; None except in the class `axion`.
        vortex_angle_rad: direction of the vortex; None except in the class `axion`.
        exposure_time_s: exposure time; None except in Model I.
        noise_seed: seed of the instrument's noise.
        halo_mass_solar: mass of the main halo, an isothermal ellipsoid.
        halo_e1: ellipticity of the main halo.
        halo_e2: ellipticity of the main halo.
        shear_gamma1: external shear.
        shear_gamma2: external shear.
        source_radius_arcsec: half-light radius of the source, an elliptical Sérsic profile: that of
            the product of the axes.
        source_index: Sérsic index of the source; 1 is an exponential disc.
        source_e1: ellipticity of the source.
        source_e2: ellipticity of the source.
        psf_scale: width of the PSF, relative to the instrument's.
        noise_scale: strength of the noise, relative to the instrument's.
        offset_x_pixels: displacement of the lens, with its source, from the image's centre.
        offset_y_pixels: displacement of the lens, with its source, from the image's centre.
    """

    preset: str
    class_name: str
    source_x_arcsec: float
    source_y_arcsec: float
    substructure: tuple[PointMass, ...] = ()
    axion_mass_ev: float | None = None
    vortex_angle_rad: float | None = None
    exposure_time_s: float | None = None
    noise_seed: int = 0
    halo_mass_solar: float = 1e12
    halo_e1: float = 0.1
    halo_e2: float = 0.0
    shear_gamma1: float = 0.05
    shear_gamma2: float = 0.0
    source_radius_arcsec: float = 0.25
    source_index: float = 1.0
    source_e1: float = -0.1
    source_e2: float = 0.1
    psf_scale: float = 1.0
    noise_scale: float = 1.0
    offset_x_pixels: float = 0.0
    offset_y_pixels: float = 0.0


def draw_lens(preset: str, class_name: str, rng: np.random.Generator) -> Lens:
    """Draw the parameters of one lens.

    Args:
        preset: one of `PRESETS`.
        class_name: one of `CLASSES`.
        rng: the only source of randomness; a generator in the same state gives the same lens.

    Raises:
        RequestError: `preset` or `class_name` is unknown.
    """
    require_known("preset", preset, PRESETS)
    require_known("class", class_name, CLASSES)
    x, y = rng.uniform(-SOURCE_OFFSET_ARCSEC, SOURCE_OFFSET_ARCSEC, 2)
    lens = Lens(preset, class_name, source_x_arcsec=float(x), source_y_arcsec=float(y))
    lens = _add_substructure(lens, rng)
    # Drawn for every preset, so that all presets consume the same random numbers.
    exposure_time_s = float(10 ** rng.uniform(*EXPOSURE_LOG10_S))
    return replace(
        lens,
        exposure_time_s=exposure_time_s if preset == "model_i" else None,
        noise_seed=int(rng.integers(2**63)),
    )


def without_substructure(lens: Lens) -> Lens:
    """Return the smooth lens: the same halo, shear, source and noise seed, no substructure."""
    return replace(lens, substructure=())


def with_shared(lens: Lens, first: Lens, shared: str) -> Lens:
    """Return a lens with the parameters that it shares with another image of the same object.

    Args:
        lens: an independent draw, from which the other parameters are taken.
        first: the lens whose parameters are shared, of the same preset and class.
        shared: a key of `SHARED_FIELDS`.
    """
    return replace(lens, **{name: getattr(first, name) for name in SHARED_FIELDS[shared]})


def vortex(axion_mass_ev: float, angle_rad: float) -> tuple[PointMass, ...]:
    """Return the vortex of an axion condensate: 100 equal masses along a line through the centre.

    The line extends from minus to plus `vortex_length_arcsec`, both ends included.

    Args:
        axion_mass_ev: mass of the axion, in eV.
        angle_rad: direction of the line, measured from the x axis towards the y axis.
    """
    length_arcsec = vortex_length_arcsec(axion_mass_ev)
    positions = np.linspace(-length_arcsec, length_arcsec, VORTEX_ELEMENTS)
    mass_solar = VORTEX_MASS_SOLAR / VORTEX_ELEMENTS
    xs, ys = positions * np.cos(angle_rad), positions * np.sin(angle_rad)
    return _point_masses(np.full(VORTEX_ELEMENTS, mass_solar), xs, ys)


def vortex_length_arcsec(axion_mass_ev: float) -> float:
    """Return half the length of the vortex: the de Broglie length of the axion at the lens.

    0.06 / (2 m / 1e-22 eV) arcsec, DeepLenseSim's formula, valid only for a lens at redshift 0.5.
    """
    return 0.06 / (2.0 * axion_mass_ev) * 1e-22


def subhalos(rng: np.random.Generator) -> tuple[PointMass, ...]:
    """Draw the subhalos of cold dark matter.

    Masses follow dN/dM ~ M^-0.9 between 1e6 and 1e10 solar masses. Distances from the centre are
    uniform between 0.25 and 2 arcsec, and directions are uniform.
    """
    masses_solar = subhalo_masses_solar(rng.uniform(size=SUBHALO_COUNT))
    radii_arcsec = rng.uniform(*SUBHALO_RADIUS_ARCSEC, SUBHALO_COUNT)
    angles_rad = rng.uniform(0.0, 2.0 * np.pi, SUBHALO_COUNT)
    xs, ys = radii_arcsec * np.cos(angles_rad), radii_arcsec * np.sin(angles_rad)
    return _point_masses(masses_solar, xs, ys)


def subhalo_masses_solar(quantiles: np.ndarray) -> np.ndarray:
    """Return quantiles of the subhalo mass function, in solar masses.

    Inverts the cumulative distribution of a power law between two bounds.

    Args:
        quantiles: probabilities between 0 and 1, of any shape.
    """
    power = SUBHALO_MASS_SLOPE + 1.0
    low, high = (bound**power for bound in SUBHALO_MASS_SOLAR)
    return (low + (high - low) * quantiles) ** (1.0 / power)


def einstein_radius_arcsec(mass_solar: float) -> float:
    """Return the Einstein radius of a point mass at the lens, for a source at redshift 1.

    theta = sqrt(4 G M / c^2 * (D_S - D_L) / (D_L D_S)). As in DeepLenseSim, D are luminosity
    distances, and D_S - D_L stands in for the distance between lens and source.
    """
    return float(np.sqrt(mass_solar * einstein_radius_squared_per_solar_mass()))


@lru_cache(maxsize=1)
def einstein_radius_squared_per_solar_mass() -> float:
    """Return the squared Einstein radius of one solar mass, in arcsec^2; it grows with the mass."""
    to_lens, to_source = (
        (1.0 + redshift) * comoving_distance(redshift, OMEGA_MATTER)  # luminosity distances
        for redshift in (LENS_REDSHIFT, SOURCE_REDSHIFT)
    )
    hubble_length_km = LIGHT_KM_S / HUBBLE_KM_S_MPC * KM_PER_MPC
    length = 4.0 * SOLAR_GM_KM3_S2 / LIGHT_KM_S**2 / hubble_length_km
    return length * (to_source - to_lens) / (to_lens * to_source) * ARCSEC_PER_RADIAN**2


def require_known(what: str, name: str, known: tuple[str, ...]) -> None:
    """Refuse a name that isn't one of the known ones.

    Raises:
        RequestError: with the known names.
    """
    if name not in known:
        raise RequestError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def _add_substructure(lens: Lens, rng: np.random.Generator) -> Lens:
    if lens.class_name == "axion":
        axion_mass_ev = float(10 ** rng.uniform(*AXION_MASS_LOG10_EV))
        angle_rad = float(rng.uniform(0.0, 2.0 * np.pi))
        return replace(
            lens,
            substructure=vortex(axion_mass_ev, angle_rad),
            axion_mass_ev=axion_mass_ev,
            vortex_angle_rad=angle_rad,
        )
    if lens.class_name == "cdm":
        return replace(lens, substructure=subhalos(rng))
    return lens


def _point_masses(
    masses_solar: np.ndarray, xs: np.ndarray, ys: np.ndarray
) -> tuple[PointMass, ...]:
    return tuple(map(PointMass, masses_solar.tolist(), xs.tolist(), ys.tolist()))
