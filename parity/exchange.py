"""Arrays that travel between the two environments, as `.npz` files without pickles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

Arrays = dict[str, np.ndarray]
Value = TypeVar("Value")  # an array, or a variable that holds one


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to one file."""
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})


def read(path: Path) -> Arrays:
    """Read the arrays of one file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def below(arrays: Mapping[str, np.ndarray], folder: str) -> Arrays:
    """Return the arrays named `folder/...`, without that beginning."""
    start = f"{folder}/"
    # By name, so that of an open file only these arrays are read.
    return {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


def named(folder: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Put `folder/` before every name: the inverse of `below`."""
    return {f"{folder}/{name}": value for name, value in values.items()}
