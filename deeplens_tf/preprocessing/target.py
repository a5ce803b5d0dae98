"""What a regression predicts: the axion mass, or a column of numbers of a catalogue."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_TEXT_OF_TARGET = 200


@dataclass(frozen=True)
class Target:
    """The quantity that a regression predicts, and its scale; a model keeps it.

    Attributes:
        column: of the catalogue; None for the axion mass.
        unit: of the quantity, "" if it has none.
        log10: whether the logarithm is predicted, with errors in dex.

    Raises:
        ValueError: texts that are too long or cannot be printed, or a mass that is not log10 / eV.
    """

    column: str | None = None
    unit: str = "eV"
    log10: bool = True

    def __post_init__(self) -> None:
        for text in (self.unit, self.column or ""):
            usable = isinstance(text, str) and len(text) <= MAX_TEXT_OF_TARGET
            if not usable or not text.isprintable():
                raise ValueError(f"target must have a column and a unit. Received: {text!r:.60}")
        if type(self.log10) is not bool or (self.is_mass and (self.unit, self.log10) != MASS_SCALE):
            raise ValueError(f"target must be log10 of a mass in eV, or a column. Received: {self}")

    @classmethod
    def from_dict(cls, values: Any) -> "Target":
        """Return the target that `asdict` describes.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(values, Mapping) or set(values) != set(asdict(cls())):
            raise ValueError(f"target must have column, unit, log10. Received: {values!r:.200}")
        return cls(**values)

    @property
    def is_mass(self) -> bool:
        """Whether it is the axion mass."""
        return self.column is None

    @property
    def quantity(self) -> str:
        """The quantity with its unit, such as `theta_e / arcsec`."""
        name = "axion mass" if self.column is None else self.column
        return f"{name} / {self.unit}" if self.unit else name

    @property
    def label(self) -> str:
        """What is predicted, such as `log10(theta_e / arcsec)`."""
        return f"log10({self.quantity})" if self.log10 else self.quantity

    @property
    def error_unit(self) -> str:
        """The unit of an error, "dex" of a logarithm; "" for none."""
        return "dex" if self.log10 else self.unit

    @property
    def headers(self) -> tuple[str, str, str]:
        """The columns of a table for the true values, the predictions and their deviations."""
        if self.is_mass:
            return "log10_mass_ev", "predicted", "std_dex"
        std = f"std / {self.error_unit}" if self.error_unit else "std"
        return self.label, f"predicted {self.label}", std


MASS_SCALE = ("eV", True)
MASS = Target()
