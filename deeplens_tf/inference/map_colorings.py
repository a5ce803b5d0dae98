"""From the texts of a column to colors: classes, or a scale of numbers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deeplens_tf.data.catalog import NO_NUMBER
from deeplens_tf.data.catalog_rows import is_number
from deeplens_tf.figures.map_colors import Classes, Coloring, Scale

MAX_COLORED_CLASSES = 12
LOGARITHMIC_FROM = 30.0  # the largest number over the smallest
PROBABILITY = "p_"  # how names of probabilities begin in what `predict` writes


def coloring_of(name: str, texts: Sequence[str]) -> Coloring:
    """Return how points are colored by a column.

    A column of numbers is a scale, logarithmic where all are positive and the largest is
    `LOGARITHMIC_FROM` times the smallest or more, except of probabilities. At most
    `MAX_COLORED_CLASSES` different whole numbers are classes, as other texts are. Of more classes,
    the most frequent ones have colors of their own and the others share one.

    Args:
        name: of the column.
        texts: of the points; "" for no value, in a column of numbers also `nan` and the like.
    """
    if all(map(is_number, texts)) and not _are_codes(texts):
        values = np.array([np.nan if t.lower() in NO_NUMBER else float(t) for t in texts])
        values[~np.isfinite(values)] = np.nan
        if (~np.isnan(values)).any():
            return _scale(name, values)
    return _classes(name, texts)


def _are_codes(texts: Sequence[str]) -> bool:
    different = {text for text in texts if text}
    return len(different) <= MAX_COLORED_CLASSES and all(map(str.isdecimal, different))


def _scale(name: str, values: np.ndarray) -> Scale:
    low, high = np.nanmin(values), np.nanmax(values)
    wide = low > 0 and high >= LOGARITHMIC_FROM * low
    return Scale(name, values, bool(wide and not name.startswith(PROBABILITY)))


def _classes(name: str, texts: Sequence[str]) -> Classes:
    counts = Counter(text for text in texts if text)
    names = sorted(counts, key=lambda text: (-counts[text], text))
    own = names if len(names) <= MAX_COLORED_CLASSES else names[: MAX_COLORED_CLASSES - 1]
    codes = {text: code for code, text in enumerate(sorted(own, key=_natural))}
    shown = [*codes]
    if others := len(names) - len(own):
        shown.append(f"{others} others")
        codes |= dict.fromkeys(names[len(own) :], len(own))
    found = np.array([codes.get(text, -1) for text in texts], np.int64)
    return Classes(name, tuple(shown), found, pooled=others > 0)


def _natural(text: str) -> tuple[float, str]:
    return (float(text), text) if text.isdecimal() else (np.inf, text)
