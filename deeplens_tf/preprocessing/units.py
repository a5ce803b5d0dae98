"""Units that a table writes as text, as astropy.units reads them."""

import math
import re
from typing import Any

MAX_UNIT_CHARACTERS = 200
_LARGE_NUMBER = re.compile(r"\d{5}")  # as a power it would take any time and memory


def parsed_unit(text: str) -> Any | None:
    """Return the unit of a text, one of astropy.units; None if astropy does not know it."""
    if len(text) > MAX_UNIT_CHARACTERS or _LARGE_NUMBER.search(text):
        return None
    from astropy import units

    try:
        return units.Unit(text)
    except (ValueError, TypeError, OverflowError):
        return None


def same_unit(one: str, other: str) -> bool:
    """Return whether two texts are the same unit, such as `km / s` and `km s-1`.

    Texts that astropy does not know are the same only if they are equal.
    """
    if one == other:
        return True
    first, second = parsed_unit(one), parsed_unit(other)
    return first is not None and second is not None and bool(first == second)


def arcsec_in(text: str) -> float | None:
    """Return how many arcsec a unit of pixel scales has: an angle, or an angle for each pixel.

    Args:
        text: the unit; "" is arcsec.

    Returns:
        A positive number, or None if the text is no such unit.
    """
    if text in ("", "arcsec"):
        return 1.0
    unit = parsed_unit(text)
    if unit is None:
        return None
    from astropy import units

    for angle in (units.arcsec, units.arcsec / units.pix):
        if isinstance(unit, units.UnitBase) and unit.is_equivalent(angle):  # no magnitude
            found = float(unit.to(angle))
            return found if 0 < found < math.inf else None
    return None
