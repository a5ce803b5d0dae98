"""Writing arrays to a `.npz` file, under any names and without pickles."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays that `numpy.load` reads by their names; equal ones give equal bytes.

    `numpy.savez` cannot: it takes no array of the name `file`.

    Raises:
        ValueError: an array of Python objects.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
