"""Parsing plain mappings, as read from YAML, into typed, frozen dataclasses, and back.

This module contains the rules; the keys of the configuration are in `config.py`.
"""

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from deeplens_tf.errors import RequestError

Settings = TypeVar("Settings")

SCALARS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The interval in which a number must lie; attached to a field with `typing.Annotated`.

    Args:
        low: the minimum, or None.
        high: the maximum, or None.
        above: an exclusive lower limit, or None.
        below: an exclusive upper limit, or None.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def admits(self, value: float) -> bool:
        """Return whether `value` is in the interval; NaN never is."""
        return (
            value == value
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        parts = [
            f"above {self.above}" if self.above is not None else "",
            f"at least {self.low}" if self.low is not None else "",
            f"at most {self.high}" if self.high is not None else "",
            f"below {self.below}" if self.below is not None else "",
        ]
        return " and ".join(part for part in parts if part)


class Different:
    """A list in which no value comes twice; attached to a field with `typing.Annotated`."""

    def admits(self, values: Sequence[Any]) -> bool:
        """Return whether all values differ."""
        return all(value not in values[:i] for i, value in enumerate(values))

    def __str__(self) -> str:
        return "a list without repetitions"


class WholeOrName:
    """A whole number of at least 0, or a name; attached to `Any` with `typing.Annotated`."""

    def admits(self, value: Any) -> bool:
        """Return whether it is one of them."""
        is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return is_number or (isinstance(value, str) and bool(value))

    def __str__(self) -> str:
        return "a whole number of at least 0 or a name"


def parse_dataclass(kind: type[Settings], values: Any, where: str = "") -> Settings:
    """Build the dataclass `kind` from a mapping, checking every key and type.

    Args:
        kind: a dataclass whose fields are scalars, tuples, Literals or dataclasses.
        values: a mapping with exactly the fields of `kind` as keys.
        where: dotted name of the mapping in the configuration, for messages.

    Raises:
        RequestError: an unknown or missing key, a wrong type or a value out of bounds.
    """
    if not isinstance(values, Mapping):
        raise RequestError(f"{where or 'the configuration'} must be a mapping, not {values!r}")
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in values:
        if key not in hints:
            raise RequestError(unknown_key(_dotted(where, key), all_keys(kind, where)))
    missing = [key for key in hints if key not in values]
    if missing:
        raise RequestError(f"the configuration lacks the key {_dotted(where, missing[0])}")
    return kind(
        **{key: convert(hint, values[key], _dotted(where, key)) for key, hint in hints.items()}
    )


def to_plain(settings: Any) -> Any:
    """Return a dataclass as a plain mapping: the inverse of `parse_dataclass`."""
    if dataclasses.is_dataclass(settings):
        return {
            field.name: to_plain(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
        }
    if isinstance(settings, Mapping):
        return {key: to_plain(value) for key, value in settings.items()}
    return [to_plain(each) for each in settings] if isinstance(settings, tuple) else settings


def all_keys(kind: type, where: str = "") -> list[str]:
    """Return the dotted names of all keys of `kind`, each section before its own keys."""
    names = []
    for key, hint in typing.get_type_hints(kind).items():
        names.append(_dotted(where, key))
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            names += all_keys(hint, _dotted(where, key))
    return names


def knows_key(kind: type, key: str) -> bool:
    """Return whether a dotted name is a key of `kind`, or below one whose keys are free."""
    first, _, rest = key.partition(".")
    hint = typing.get_type_hints(kind).get(first)
    if hint is None or not rest:
        return hint is not None
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return knows_key(hint, rest)
    return typing.get_origin(hint) is Mapping


def unknown_key(key: str, known: list[str]) -> str:
    """Return the message for an unknown key, which names the most similar known one."""
    if key in known:  # dotted names are for the command line; a file nests them
        nested = key.replace(".", ": {") + ": ..." + "}" * key.count(".")
        return f"unknown configuration key '{key}': in a file it is written {nested}"
    same_leaf = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
    guess = (same_leaf or [nearest(key, known)])[0]
    hint = f"did you mean {guess}?" if guess else f"known keys: {', '.join(known)}"
    return f"unknown configuration key {key}: {hint}"


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the most similar of the known names, or an empty text if none is similar."""
    return (difflib.get_close_matches(name, known, n=1, cutoff=0.5) or [""])[0]


def _dotted(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return a plain value as the type of a hint.

    Args:
        hint: a scalar type, `X | None`, `Literal`, `tuple[X, ...]`, `Mapping[str, X]`, a dataclass
            of these, or `Annotated` with `Bounds` or an object with its methods; `Any` for plain
            data as it is.
        value: as YAML gives it.
        where: what to call the value in messages.

    Raises:
        RequestError: a wrong type, or a value out of bounds.
    """
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        kind, bounds = typing.get_args(hint)
        return _within(bounds, convert(kind, value, where), where)
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        return None if value is None else convert(inner, value, where)
    if origin is Literal:
        return _one_of(typing.get_args(hint), value, where)
    if origin is Mapping:
        return _values(typing.get_args(hint)[1], value, where)
    if hint is Any:
        return value
    if origin is tuple:
        return _items(typing.get_args(hint), value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return parse_dataclass(hint, value, where)
    return _scalar(hint, value, where)


def is_supported(hint: Any) -> bool:
    """Return whether `convert` knows a hint."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return is_supported(inner[0]) and hasattr(inner[1], "admits")
    if origin in (typing.Union, types.UnionType):
        return len(inner) == 2 and type(None) in inner and any(map(is_supported, inner))
    if origin in (tuple, Mapping):
        return all(is_supported(each) for each in inner if each is not ...)
    is_dataclass = isinstance(hint, type) and dataclasses.is_dataclass(hint)
    return origin is Literal or is_dataclass or hint in (Any, *SCALARS)


def _within(bounds: Bounds, value: Any, where: str) -> Any:
    if value is not None and not bounds.admits(value):
        raise RequestError(f"{where} must be {bounds}, not {value!r}")
    return value


def _one_of(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in choices or isinstance(value, bool) != (value in (True, False)):
        listed = ", ".join(str(choice) for choice in choices)
        raise RequestError(f"{where} must be one of {listed}, not {value!r}")
    return value


def _items(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise RequestError(f"{where} must be a list such as [a, b], not {value!r}")
    if hints[-1] is ...:  # tuple[X, ...] has any length
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        raise RequestError(f"{where} must be a list of {len(hints)} values, not {value!r}")
    pairs = zip(hints, value, strict=True)
    return tuple(convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(pairs))


def _values(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RequestError(f"{where} must be a mapping such as {{name: value}}, not {value!r}")
    return {key: convert(hint, item, f"{where}.{key}") for key, item in value.items()}


def _scalar(kind: type, value: Any, where: str) -> Any:
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's
    if kind is float:
        return _number(value, where)
    # In Python a bool is an int, but it is never a meaningful count.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(f"{where} must be {SCALARS[kind]}, not {value!r}")
    return value


def _number(value: Any, where: str) -> float:
    # YAML 1.1 reads a number without a decimal point, such as 1e-3, as text.
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise RequestError(f"{where} must be {SCALARS[float]}, not {value!r}")
