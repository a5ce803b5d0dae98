"""Priors of the simulated survey: lenses, and galaxies that may be taken for lenses.

Both classes show a red galaxy with bulge and disc, blue light near it, and galaxies of the field.
In a lens the blue light is a galaxy behind it, as the lens images it. In a non-lens it is a
face-on disc around the galaxy, or one to three neighbours. Its magnitudes have the same prior in
both classes, as have those of all else, so the total flux in any band does not tell the classes
apart.

The priors are chosen, not measured: they resemble lenses that are found from the ground, and no
survey's population was fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeplens_tf.simulation.priors import require_known
from deeplens_tf.simulation.survey_bands import SURVEY_BANDS

SURVEY_PRESETS = ("sersic_survey",)
SURVEY_CLASSES = ("lens", "nonlens")

DECLINATION_DEG = (-60.0, 0.0)

# Magnitudes in r, and colours g-r, r-i, i-z and z-Y with the scatter of each.
GALAXY_MAGNITUDE_R = (18.0, 20.5)
BLUE_MAGNITUDE_R = (19.5, 21.5)
FIELD_MAGNITUDE_R = (20.5, 23.0)
BULGE_COLOURS = (1.4, 0.6, 0.35, 0.1)
DISC_COLOURS = (1.0, 0.45, 0.25, 0.1)
BLUE_COLOURS = (0.4, 0.2, 0.1, 0.05)
COLOUR_SCATTER = 0.1

BULGE_FRACTION = (0.5, 0.95)
BULGE_RADIUS_ARCSEC = (0.6, 1.2)
DISC_PER_BULGE_RADIUS = (1.2, 2.0)
ELLIPTICITY_SCATTER = 0.1
MAX_ELLIPTICITY = 0.3

EINSTEIN_RADIUS_ARCSEC = (1.2, 2.4)
MASS_ELLIPTICITY_SCATTER = 0.03
SHEAR_SCATTER = 0.03
SOURCE_RADIUS_ARCSEC_RANGE = (0.15, 0.4)
# Of the Einstein radius. A source this near to the axis has several images.
SOURCE_OFFSET_FRACTION = 0.4

FACE_ON_FRACTION = 0.5
FACE_ON_RADIUS_ARCSEC = (1.2, 2.2)
FACE_ON_ELLIPTICITY_SCATTER = 0.03
MAX_NEIGHBOURS = 3
NEIGHBOUR_DISTANCE_ARCSEC = (1.2, 3.0)
NEIGHBOUR_RADIUS_ARCSEC = (0.2, 0.6)

MAX_FIELD_GALAXIES = 2
FIELD_DISTANCE_ARCSEC = (4.0, 8.0)
FIELD_RADIUS_ARCSEC = (0.2, 0.8)

Range = tuple[float, float]


@dataclass(frozen=True)
class SersicLight:
    """An elliptical Sérsic profile, in the image's frame: x to the right (west), y up (north).

    Attributes:
        magnitudes: total apparent magnitude (AB) in each of `SURVEY_BANDS`; of a lensed source
            that of all its images together.
        radius_arcsec: half-light radius.
        index: Sérsic index, 4 for a bulge and 1 for a disc.
        e1: ellipticity.
        e2: ellipticity.
        x_arcsec: centre; of a lensed source that without the lens.
        y_arcsec: centre.
    """

    magnitudes: Mapping[str, float]
    radius_arcsec: float
    index: float
    e1: float
    e2: float
    x_arcsec: float = 0.0
    y_arcsec: float = 0.0


@dataclass(frozen=True)
class Deflector:
    """An isothermal ellipsoid in the centre of the image, with an external shear.

    Attributes:
        theta_e_arcsec: Einstein radius.
        e1: ellipticity.
        e2: ellipticity.
        shear_gamma1: external shear.
        shear_gamma2: external shear.
    """

    theta_e_arcsec: float
    e1: float
    e2: float
    shear_gamma1: float
    shear_gamma2: float


@dataclass(frozen=True)
class Scene:
    """The parameters of one image; the same scene always gives the same image.

    Attributes:
        class_name: one of `SURVEY_CLASSES`.
        ra_deg: right ascension of the centre, ICRS.
        dec_deg: declination of the centre, ICRS.
        galaxy: bulge and disc of the galaxy in the centre.
        others: the light of all other galaxies, except that of a lensed source.
        noise_seed: seed of the noise.
        deflector: the mass of the galaxy; None for a non-lens.
        source: the galaxy behind it; None for a non-lens.
    """

    class_name: str
    ra_deg: float
    dec_deg: float
    galaxy: tuple[SersicLight, ...]
    others: tuple[SersicLight, ...]
    noise_seed: int
    deflector: Deflector | None = None
    source: SersicLight | None = None


def draw_scene(class_name: str, rng: np.random.Generator) -> Scene:
    """Draw the parameters of one image.

    Args:
        class_name: one of `SURVEY_CLASSES`.
        rng: the only source of randomness; a generator in the same state gives the same scene.

    Raises:
        RequestError: `class_name` is unknown.
    """
    require_known("class", class_name, SURVEY_CLASSES)
    ra_deg, dec_deg = _position(rng)
    noise_seed = int(rng.integers(2**63))
    galaxy, field = _galaxy(rng), _field(rng)
    blue = _magnitudes(rng, float(rng.uniform(*BLUE_MAGNITUDE_R)), BLUE_COLOURS)
    common = (class_name, ra_deg, dec_deg, galaxy)
    if class_name == "nonlens":
        return Scene(*common, (*_blue_light(rng, blue), *field), noise_seed)
    deflector = _deflector(rng, galaxy[0])
    source = _source(rng, blue, deflector.theta_e_arcsec)
    return Scene(*common, field, noise_seed, deflector, source)


def total_magnitude(lights: tuple[SersicLight, ...], band: str) -> float:
    """Return the magnitude of several galaxies, or parts of one, together."""
    return float(-2.5 * np.log10(sum(10.0 ** (-0.4 * each.magnitudes[band]) for each in lights)))


def _position(rng: np.random.Generator) -> tuple[float, float]:
    # Uniform on the sphere between two declinations.
    ra_deg = rng.uniform(0.0, 360.0)
    sine = rng.uniform(*np.sin(np.deg2rad(DECLINATION_DEG)))
    return float(ra_deg), float(np.rad2deg(np.arcsin(sine)))


def _galaxy(rng: np.random.Generator) -> tuple[SersicLight, SersicLight]:
    magnitude_r = rng.uniform(*GALAXY_MAGNITUDE_R)
    bulge_fraction = rng.uniform(*BULGE_FRACTION)
    radius_arcsec = rng.uniform(*BULGE_RADIUS_ARCSEC)
    disc_radius_arcsec = radius_arcsec * rng.uniform(*DISC_PER_BULGE_RADIUS)
    bulge_r, disc_r = _shared(magnitude_r, (bulge_fraction, 1.0 - bulge_fraction))
    bulge = _magnitudes(rng, bulge_r, BULGE_COLOURS)
    disc = _magnitudes(rng, disc_r, DISC_COLOURS)
    shape = _ellipticity(rng)
    return (
        SersicLight(bulge, float(radius_arcsec), 4.0, *shape),
        SersicLight(disc, float(disc_radius_arcsec), 1.0, *shape),
    )


def _field(rng: np.random.Generator) -> tuple[SersicLight, ...]:
    magnitudes_r = rng.uniform(*FIELD_MAGNITUDE_R, rng.integers(MAX_FIELD_GALAXIES + 1))
    return tuple(
        _neighbour(
            *(rng, _magnitudes(rng, float(magnitude_r), BLUE_COLOURS)),
            *(FIELD_RADIUS_ARCSEC, FIELD_DISTANCE_ARCSEC),
        )
        for magnitude_r in magnitudes_r
    )


def _blue_light(rng: np.random.Generator, blue: dict[str, float]) -> tuple[SersicLight, ...]:
    if rng.uniform() < FACE_ON_FRACTION:
        shape = _ellipticity(rng, FACE_ON_ELLIPTICITY_SCATTER)
        return (SersicLight(blue, float(rng.uniform(*FACE_ON_RADIUS_ARCSEC)), 1.0, *shape),)
    fractions = rng.dirichlet(np.full(rng.integers(1, MAX_NEIGHBOURS + 1), 3.0))
    shares = {band: _shared(magnitude, fractions) for band, magnitude in blue.items()}
    return tuple(
        _neighbour(
            *(rng, {band: share[i] for band, share in shares.items()}),
            *(NEIGHBOUR_RADIUS_ARCSEC, NEIGHBOUR_DISTANCE_ARCSEC),
        )
        for i in range(len(fractions))
    )


def _neighbour(
    rng: np.random.Generator,
    magnitudes: dict[str, float],
    radius_arcsec: Range,
    distance_arcsec: Range,
) -> SersicLight:
    distance, angle_rad = rng.uniform(*distance_arcsec), rng.uniform(0.0, 2.0 * np.pi)
    x, y = distance * np.cos(angle_rad), distance * np.sin(angle_rad)
    size, shape = float(rng.uniform(*radius_arcsec)), _ellipticity(rng)
    return SersicLight(magnitudes, size, 1.0, *shape, float(x), float(y))


def _deflector(rng: np.random.Generator, bulge: SersicLight) -> Deflector:
    theta_e_arcsec = float(rng.uniform(*EINSTEIN_RADIUS_ARCSEC))
    e1, e2 = rng.normal((bulge.e1, bulge.e2), MASS_ELLIPTICITY_SCATTER).tolist()
    return Deflector(theta_e_arcsec, e1, e2, *rng.normal(0.0, SHEAR_SCATTER, 2).tolist())


def _source(rng: np.random.Generator, blue: dict[str, float], theta_e_arcsec: float) -> SersicLight:
    # Uniform in a disc around the axis.
    distance = SOURCE_OFFSET_FRACTION * theta_e_arcsec * np.sqrt(rng.uniform())
    angle_rad = rng.uniform(0.0, 2.0 * np.pi)
    x, y = float(distance * np.cos(angle_rad)), float(distance * np.sin(angle_rad))
    radius_arcsec = float(rng.uniform(*SOURCE_RADIUS_ARCSEC_RANGE))
    return SersicLight(blue, radius_arcsec, 1.0, *_ellipticity(rng), x, y)


def _magnitudes(
    rng: np.random.Generator, magnitude_r: float, colours: tuple[float, ...]
) -> dict[str, float]:
    steps = rng.normal(colours, COLOUR_SCATTER)
    # Each colour is a band minus the next redder one.
    from_g = np.concatenate([[0.0], -np.cumsum(steps)])
    return dict(zip(SURVEY_BANDS, (magnitude_r + from_g + steps[0]).tolist(), strict=True))


def _shared(magnitude: float, fractions: np.ndarray | tuple[float, ...]) -> list[float]:
    return [float(magnitude - 2.5 * np.log10(fraction)) for fraction in fractions]


def _ellipticity(
    rng: np.random.Generator, scatter: float = ELLIPTICITY_SCATTER
) -> tuple[float, float]:
    e1, e2 = rng.normal(0.0, scatter, 2).clip(-MAX_ELLIPTICITY, MAX_ELLIPTICITY)
    return float(e1), float(e2)
