"""Numbers among the arguments, Python's or NumPy's."""

from numbers import Integral, Real
from typing import Any


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number; True and False are not meant as numbers."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Return whether a value is a real number; True and False are not meant as numbers."""
    return isinstance(value, Real) and not isinstance(value, bool)
