"""The choice of labelled images: those with a mass, and a fraction of each class."""

import numpy as np
import pandas as pd


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
    """Choose the same fraction of each class, at least one image of each.

    For the same seed, the choice of a smaller fraction is part of that of a larger one.

    Args:
        index: table of the split, see `ImageData.index`.
        fraction: of each class, in (0, 1].
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
