"""Purity and completeness of the images that are selected by their probability of a class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.metrics.intervals import plain_interval, wilson_interval
from deeplens_tf.metrics.weighted import FloatArray, plain_numbers, ratio

THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)


def purity_and_completeness(
    is_class: NDArray[np.bool_], probabilities: FloatArray, class_names: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Score the selections by each of the `THRESHOLDS`: images with at least that probability.

    Args:
        is_class: shape (n, classes).
        probabilities: shape (n, classes).
        class_names: one per column.

    Returns:
        Class -> for each threshold `threshold`, `selected` (images), `purity` (fraction of them
        that is of the class: precision), `completeness` (fraction of the class that they are:
        recall) and their Wilson intervals `purity_95` and `completeness_95`; None for 0/0.
    """
    rows = [_of_threshold(is_class, probabilities, threshold) for threshold in THRESHOLDS]
    return {name: [row[k] for row in rows] for k, name in enumerate(class_names)}


def _of_threshold(
    is_class: NDArray[np.bool_], probabilities: FloatArray, threshold: float
) -> list[dict[str, Any]]:
    """Return a row for each class."""
    is_selected = probabilities >= threshold
    selected, true = is_selected.sum(axis=0), is_class.sum(axis=0)
    hits = (is_selected & is_class).sum(axis=0)
    columns = {"threshold": [threshold] * len(true), "selected": selected.tolist()}
    for name, count in (("purity", selected), ("completeness", true)):
        columns[name] = plain_numbers(ratio(hits, count))
        columns[f"{name}_95"] = [plain_interval(limits) for limits in wilson_interval(hits, count)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
