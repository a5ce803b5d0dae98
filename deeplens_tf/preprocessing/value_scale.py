"""Which pixel values become 0 and 1, how those between are stretched, and what replaces NaN."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

INTERVALS = ("minmax", "percentile", "zscale")
STRETCHES = ("linear", "asinh", "log", "sqrt")
SCALE_BANDS = ("together", "each")
SCALE_OVERS = ("image", "data")
NAN_FILLS = ("median", "minimum", "zero")
MAX_NAN_FRACTION = 0.5
DEFAULT_PERCENTILES = (0.5, 99.5)
ASINH_SOFTENING = 0.1
OWNERS = {
    "percentiles": "interval percentile",
    "asinh_softening": "stretch asinh",
    "nan_fill": "max_nan_fraction",
}
ZSCALE_VALUES = 10_000  # from which zscale finds its interval, at most
MAX_LIMITS = 1024  # as many as an image may have bands
SAME_LIMITS = 1e-9  # of an interval: further than rounding moves its ends
LATER_KEYS = (("max_nan_fraction", "nan_fill"), ("scale_over",), ("limits",))  # may be missing

Limits: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ValueScale:
    """An interval of pixel values, which becomes [0, 1], a stretch of it, and what replaces NaN.

    Attributes:
        interval: "minmax", the extremes; "percentile", between two percentiles; or "zscale", around
            the median by the slope of the sorted values, as IRAF's display and astropy's
            `ZScaleInterval`, whose defaults it has but for the number of values.
        percentiles: lower and upper, of interval "percentile"; None for 0.5 and 99.5.
        stretch: of v in [0, 1]. "linear"; "asinh", asinh(v / a) / asinh(1 / a), see Lupton,
            Gunn and Szalay (1999), AJ 118, 1406; "log", log(1000 v + 1) / log(1001); or "sqrt".
        asinh_softening: a of stretch "asinh", about where it turns from linear to logarithmic; None
            for 0.1.
        scale_bands: whether all bands have one interval, "together", or "each" has its own.
        max_nan_fraction: largest share of the kept pixels of a band, up to 0.5, that may be NaN and
            are filled; 0 for none.
        nan_fill: with what, of the band's other kept pixels: "median", "minimum" or "zero"; None
            for the median.
        scale_over: whether each "image" has an interval of its own, or the "data" have one, which
            is learnt from the training images.
        limits: (low, high) of the interval of scale_over "data", in the unit of the files; of each
            used band with scale_bands "each". None before it is learnt.

    Raises:
        ValueError: a value that is not one of these, or one of another interval or stretch.
    """

    interval: str = "minmax"
    percentiles: tuple[float, float] | None = None
    stretch: str = "linear"
    asinh_softening: float | None = None
    scale_bands: str = "together"
    max_nan_fraction: float = 0.0
    nan_fill: str | None = None
    scale_over: str = "image"
    limits: Limits | None = None

    def __post_init__(self) -> None:
        self._require("interval", self.interval in INTERVALS, " or ".join(INTERVALS))
        self._require("stretch", self.stretch in STRETCHES, " or ".join(STRETCHES))
        self._require("scale_bands", self.scale_bands in SCALE_BANDS, " or ".join(SCALE_BANDS))
        self._require("scale_over", self.scale_over in SCALE_OVERS, " or ".join(SCALE_OVERS))
        self._check_limits()
        fraction = self.max_nan_fraction
        is_fraction = _is_real(fraction) and 0 <= fraction <= MAX_NAN_FRACTION
        self._require("max_nan_fraction", is_fraction, f"a number from 0 to {MAX_NAN_FRACTION}")
        object.__setattr__(self, "max_nan_fraction", float(fraction))
        self._complete("nan_fill", fraction > 0, NAN_FILLS[0])
        is_fill = self.nan_fill is None or self.nan_fill in NAN_FILLS
        self._require("nan_fill", is_fill, " or ".join(NAN_FILLS))
        self._complete("percentiles", self.interval == "percentile", DEFAULT_PERCENTILES)
        self._complete("asinh_softening", self.stretch == "asinh", ASINH_SOFTENING)
        if self.percentiles is not None:
            valid = _are_percentiles(self.percentiles)
            self._require("percentiles", valid, "two rising numbers from 0 to 100")
            low, high = self.percentiles
            object.__setattr__(self, "percentiles", (float(low), float(high)))
        if self.asinh_softening is not None:
            valid = _is_real(self.asinh_softening) and 1e-6 <= self.asinh_softening <= 1e3
            self._require("asinh_softening", valid, "a number from 1e-6 to 1000")
            object.__setattr__(self, "asinh_softening", float(self.asinh_softening))

    def _require(self, name: str, valid: bool, allowed: str) -> None:
        if not valid:
            value = getattr(self, name)
            raise ValueError(f"{name} must be {allowed}. Received: {name}={value!r:.100}")

    def _check_limits(self) -> None:
        if self.limits is None:
            return
        self._require("limits", self.scale_over == "data", "None without scale_over data")
        pairs = _pairs(self.limits)
        valid = pairs is not None and (len(pairs) == 1 or self.scale_bands == "each")
        allowed = "pairs of finite numbers, each rising; one pair with scale_bands together"
        self._require("limits", valid, allowed)
        object.__setattr__(self, "limits", pairs)

    def _complete(self, name: str, used: bool, default: Any) -> None:
        """Set the default of a parameter that is used, and refuse one that is not."""
        if used and getattr(self, name) is None:
            object.__setattr__(self, name, default)
        self._require(name, used or getattr(self, name) is None, f"None without {OWNERS[name]}")

    def without_nan(self, image: NDArray, kept: NDArray) -> tuple[NDArray, int]:
        """Fill the NaN pixels of the bands that have few enough among the kept pixels.

        Args:
            image: (height, width, bands).
            kept: the pixels of it that are kept.

        Returns:
            The image, also filled beyond the kept pixels, and the number of kept pixels that were
            NaN in a band that is filled. An image without NaN is returned as it is.
        """
        if not self.max_nan_fraction or image.dtype.kind != "f":
            return image, 0
        missing = np.isnan(kept)
        few = np.flatnonzero(missing.mean(axis=(0, 1)) <= self.max_nan_fraction)
        gaps = np.isnan(image[..., few])
        if not gaps.any():
            return image, 0
        known = [kept[..., band][~missing[..., band]].astype(np.float64) for band in few]
        image = image.copy()
        image[..., few] = np.where(gaps, [self._fill(values) for values in known], image[..., few])
        return image, int(missing[..., few].any(axis=-1).sum())

    def _fill(self, known: NDArray[np.float64]) -> float:
        """Return what replaces NaN in a band with these other values."""
        if self.nan_fill == "zero":
            return 0.0
        return float(np.median(known) if self.nan_fill == "median" else known.min())

    @property
    def of_values(self) -> "ValueScale":
        """The scale without what replaces NaN, which changes no other pixel."""
        return replace(self, max_nan_fraction=0.0, nan_fill=None)

    @property
    def recipe(self) -> "ValueScale":
        """The scale without the limits that were learnt by it."""
        return replace(self, limits=None)

    @property
    def lacks_limits(self) -> bool:
        """Whether its limits have to be learnt from the training images of a data set."""
        return self.scale_over == "data" and self.limits is None

    @property
    def has_own_extremes(self) -> bool:
        """Whether the minimum and the maximum of every image become 0 and 1."""
        return self.interval == "minmax" and self.scale_over == "image"

    def of_band(self, band: int) -> "ValueScale":
        """Return the scale of one band, of those that are used."""
        return self if self.limits is None else replace(self, limits=(self.limits[band],))

    def gives_same_values(self, other: "ValueScale") -> bool:
        """Return whether both make the same of every pixel, but for rounding and filled NaN."""
        ours, theirs = self.of_values, other.of_values
        if ours.recipe != theirs.recipe or ours.limits is None or theirs.limits is None:
            return ours == theirs
        if len(ours.limits) != len(theirs.limits):
            return False
        mine, others = np.array(ours.limits) / 4, np.array(theirs.limits) / 4  # do not overflow
        return bool((np.abs(mine - others) <= SAME_LIMITS * np.ptp(mine, axis=1)[:, None]).all())

    def ends(self, pixels: NDArray) -> tuple[float, float]:
        """Return the ends of the interval of some pixels, in float64.

        Args:
            pixels: (height, width, bands), finite.

        Returns:
            Lower and upper end, which may be equal, or not finite for values beyond 1e150.
        """
        if self.interval == "minmax":
            return float(pixels.min()), float(pixels.max())
        from astropy.visualization import AsymmetricPercentileInterval, ZScaleInterval

        # Band by band, so that a sample has pixels of every band.
        values = np.moveaxis(pixels, -1, 0).astype(np.float64).ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            if self.percentiles is not None:
                low, high = AsymmetricPercentileInterval(*self.percentiles).get_limits(values)
            else:
                sample = values[:: -(-values.size // ZSCALE_VALUES)]
                low, high = ZScaleInterval(n_samples=sample.size).get_limits(sample)
        return float(low), float(high)

    def stretched(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values in [0, 1] after the stretch, in [0, 1] too."""
        if self.stretch == "linear":
            return values
        from astropy.visualization import AsinhStretch, LogStretch, SqrtStretch

        if self.asinh_softening is not None:
            stretch = AsinhStretch(self.asinh_softening)
        else:
            stretch = LogStretch() if self.stretch == "log" else SqrtStretch()
        return np.asarray(stretch(values, clip=False)).clip(0.0, 1.0)

    def __str__(self) -> str:
        interval = "min-max" if self.interval == "minmax" else self.interval
        if self.percentiles is not None:
            interval += " {:g} to {:g}".format(*self.percentiles)
        stretch = "" if self.stretch == "linear" else f", {self.stretch}"
        if self.asinh_softening is not None:
            stretch += f" {self.asinh_softening:g}"
        bands = ", each band by itself" * (self.scale_bands == "each")
        over = ", over the data" * (self.scale_over == "data")
        limits = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in self.limits or ())
        return interval + stretch + bands + over + f" ({limits})" * bool(limits)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a file, as in earlier versions where these suffice."""
        values = asdict(self)
        if not self.max_nan_fraction:
            del values["max_nan_fraction"], values["nan_fill"]
        if self.scale_over == "image":
            del values["scale_over"]
        if self.limits is None:
            del values["limits"]
        else:
            values["limits"] = [list(pair) for pair in self.limits]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Any) -> "ValueScale":
        """Return the scale that `to_dict` described.

        Raises:
            ValueError: anything else.
        """
        given: dict[str, Any] = dict(values) if isinstance(values, Mapping) else {}
        known = {each.name for each in fields(cls)}
        missing = known - set(given)
        may_miss = {key for group in LATER_KEYS if missing.issuperset(group) for key in group}
        if set(given) - known or missing - may_miss:
            raise ValueError(f"scale must have the keys of a ValueScale. Received: {values!r:.200}")
        if isinstance(given["percentiles"], list):
            given["percentiles"] = tuple(given["percentiles"])
        return cls(**given)


def _are_percentiles(values: Any) -> bool:
    if not isinstance(values, tuple | list) or len(values) != 2:
        return False
    inside = all(_is_real(value) and 0 <= value <= 100 for value in values)
    return inside and all(low < high for low, high in pairwise(values))


def _is_real(value: Any) -> bool:
    return isinstance(value, float | int | np.number) and not isinstance(value, bool)


def _pairs(values: Any) -> Limits | None:
    """Return pairs of rising, finite numbers as floats, or None for anything else."""
    if not isinstance(values, tuple | list) or not 1 <= len(values) <= MAX_LIMITS:
        return None
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in values):
        return None
    if not all(_is_real(end) and np.isfinite(end) for pair in values for end in pair):
        return None
    pairs = tuple((float(low), float(high)) for low, high in values)
    return pairs if all(low < high for low, high in pairs) else None


MIN_MAX = ValueScale()
# What a configuration sets of it; the limits are learnt.
SCALE_KEYS = tuple(each.name for each in fields(ValueScale) if each.name != "limits")
