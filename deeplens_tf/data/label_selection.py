"""The choice of labelled images: those with a mass, and a fraction of each class."""

import numpy as np
import pandas as pd

from deeplens_tf.data.objects import first_of_object


def has_mass(index: pd.DataFrame) -> np.ndarray:
    """Return True for each row with a known mass."""
    return index["mass_ev"].notna().to_numpy()


def chosen_rows(index: pd.DataFrame, usable: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose the same fraction of the usable rows of each class, see `label_subset`.

    Args:
        index: table of the split, see `ImageData.index`.
        usable: True for each row with a target, shape (rows,).
        fraction: of each class, in (0, 1].
        seed: of the run.

    Returns:
        True for each chosen row, shape (rows,).
    """
    chosen = np.zeros(len(index), bool)
    chosen[usable] = label_subset(index[usable], fraction, seed)
    return chosen


def label_subset(index: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    """Choose the same fraction of the objects of each class, at least one of each.

    A chosen object brings all of its images; an image of no known object is one of its own. For the
    same seed, the choice of a smaller fraction is part of that of a larger one.

    Args:
        index: table of the split, see `ImageData.index`; without a column object, no object is
            known.
        fraction: of each class, in (0, 1].
        seed: of the run.

    Returns:
        True for each chosen row, shape (rows,).
    """
    keep = np.zeros(len(index), bool)
    generator = np.random.default_rng([seed, 0x6C6162656C])
    objects = index["object"].to_numpy() if "object" in index else np.full(len(index), "")
    for label in sorted(index["label"].unique()):
        rows = np.flatnonzero(index["label"] == label)
        first = first_of_object(objects[rows])
        chosen = generator.permutation(np.unique(first))
        chosen = chosen[: max(1, round(fraction * len(chosen)))]
        keep[rows[np.isin(first, chosen)]] = True
    return keep
