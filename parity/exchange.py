"""Arrays exchanged between the two environments, as `.npz` files without pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Arrays = dict[str, np.ndarray]
Value = TypeVar("Value")  # an array, or a variable


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to one file."""
    plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(path, **plain)


def read(path: Path) -> Arrays:
    """Read the arrays of one file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def below(arrays: Mapping[str, np.ndarray], folder: str) -> Arrays:
    """Return the arrays named `folder/...`, without that prefix."""
    start = f"{folder}/"
    # By name, so that only these arrays of an open file are read.
    return {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


def named(folder: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Prefix every name with `folder/`: the inverse of `below`."""
    return {f"{folder}/{name}": value for name, value in values.items()}
