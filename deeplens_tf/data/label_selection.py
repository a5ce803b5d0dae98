"""Which labelled images of a split are used."""

import numpy as np
import pandas as pd


def chosen_rows(index: pd.DataFrame, usable: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose the same share of the usable rows of each class, see `label_subset`.

    Args:
        index: table of the split.
        usable: True for each row that has what is to be learnt, shape (rows,).
        fraction: share of each class, in (0, 1].
        seed: of the run.

    Returns:
        True for each chosen row, shape (rows,).
    """
    chosen = np.zeros(len(index), bool)
    chosen[usable] = label_subset(index[usable], fraction, seed)
    return chosen


def has_mass(index: pd.DataFrame) -> np.ndarray:
    """Return True for each row whose mass is known."""
    return index["mass_ev"].notna().to_numpy()


def label_subset(index: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    """Choose the same share of each class, at least one image of each.

    A smaller fraction's choice lies within a larger one's, for the same seed.

    Args:
        index: table of the split, see `PreparedData.index`.
        fraction: share of each class, in (0, 1].
        seed: of the run.

    Returns:
        True for each chosen row, shape (rows,).
    """
    keep = np.zeros(len(index), bool)
    generator = np.random.default_rng([seed, 0x6C6162656C])
    for label in sorted(index["label"].unique()):
        rows = generator.permutation(np.flatnonzero(index["label"] == label))
        keep[rows[: max(1, round(fraction * len(rows)))]] = True
    return keep
