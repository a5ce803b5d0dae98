"""Every variable of a training as NumPy arrays, and back.

Unlike `.weights`, `model.variables` contains the state of the seed generators of dropout. With the
variables of the optimiser and the metrics that is all that a step reads and writes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from deeplens_tf.errors import RequestError

Variables = list[Any]
GROUPS: dict[str, Callable[[keras.Model], Variables]] = {
    "model": lambda model: model.variables,
    "optimizer": lambda model: model.optimizer.variables,
    "metrics": lambda model: model.metrics_variables,
}
MAX_SHOWN = 3


def variables_of(model: keras.Model, group: str) -> dict[str, Any]:
    """Return the variables of one of `GROUPS` by keys that are the same in every process."""
    return {
        # Keras numbers names by the order of creation in the process.
        f"{group}/{i:05d}/{re.sub(r'_[0-9]+', '', variable.path)}": variable
        for i, variable in enumerate(GROUPS[group](model))
    }


def arrays_of(model: keras.Model, *groups: str) -> dict[str, np.ndarray]:
    """Return copies of the values of all variables in the named groups."""
    return {
        key: np.array(keras.ops.convert_to_numpy(variable))
        for group in groups
        for key, variable in variables_of(model, group).items()
    }


def assign(model: keras.Model, arrays: Mapping[str, np.ndarray], *groups: str) -> None:
    """Restore the value of every variable in the named groups.

    Raises:
        RequestError: arrays of another model; the message names those that differ.
    """
    variables: dict[str, Any] = {}
    for group in groups:
        variables |= variables_of(model, group)
    wanted = {key: _form(variable) for key, variable in variables.items()}
    found = {key: _form(arrays[key]) for key in arrays if key.partition("/")[0] in groups}
    if wanted != found:
        raise RequestError(f"the checkpoint is of another model: {_differences(wanted, found)}")
    for key, variable in variables.items():
        variable.assign(arrays[key])


def _form(array: Any) -> str:
    return f"{keras.backend.standardize_dtype(array.dtype)}{tuple(array.shape)}"


def _differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    keys = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    shown = [f"{key} {found.get(key)} instead of {wanted.get(key)}" for key in keys[:MAX_SHOWN]]
    more = f" and {len(keys) - MAX_SHOWN} more" if len(keys) > MAX_SHOWN else ""
    return ", ".join(shown) + more
