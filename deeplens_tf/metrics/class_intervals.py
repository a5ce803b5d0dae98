"""95 % intervals of the metrics of each class, and of their means over the classes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.metrics.intervals import (
    area_interval,
    f1_interval,
    mean_interval,
    wilson_interval,
)
from deeplens_tf.metrics.ranking import area_influence, area_under_curve, average_precision
from deeplens_tf.metrics.weighted import FloatArray, ratio

FEWEST_IMAGES = 2
"""Of a class, for a placement to have a spread, and so the areas a correlation."""

REPORT_COLUMNS = ("precision", "recall", "f1")
Limits = dict[str, FloatArray]


class Counts(NamedTuple):
    """Images of each class, shape (classes,): rightly predicted, true, and predicted."""

    hits: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]


def counts_of(matrix: NDArray[np.int64]) -> Counts:
    """Return the counts of a confusion matrix, rows true, columns predicted."""
    return Counts(matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0))


def per_class(
    score: Callable[[NDArray[np.bool_], FloatArray], float],
    is_class: NDArray[np.bool_],
    probabilities: FloatArray,
) -> FloatArray:
    """Return `score(is_class, probabilities)` of each column, shape (classes,)."""
    return np.array([score(*columns) for columns in zip(is_class.T, probabilities.T, strict=True)])


def report_limits(counts: Counts, class_names: Sequence[str]) -> Limits:
    """Return the limits of precision, recall and F1 of each class."""
    hits, true, predicted = counts
    limits = (
        wilson_interval(hits, predicted),
        wilson_interval(hits, true),
        f1_interval(hits, true, predicted),
    )
    return {
        f"classification_report.{name}.{column}": values[k]
        for k, name in enumerate(class_names)
        for column, values in zip(REPORT_COLUMNS, limits, strict=True)
    }


def balanced_accuracy_limits(counts: Counts) -> FloatArray:
    """Return the limits of the mean recall; the recalls are independent, of different images."""
    present = counts.true > 0
    recalls, limits = ratio(counts.hits, counts.true), wilson_interval(counts.hits, counts.true)
    return mean_interval(recalls[present], limits[present], np.eye(present.sum()))


def area_limits(
    is_class: NDArray[np.bool_], probabilities: FloatArray, class_names: Sequence[str]
) -> Limits:
    """Return the limits of the area of each class and of their mean."""
    areas = per_class(area_under_curve, is_class, probabilities)
    true = is_class.sum(axis=0)
    limits = np.array(
        [area_interval(areas[k], n, len(is_class) - n) for k, n in enumerate(true.tolist())]
    )
    defined = np.isfinite(areas)
    correlation = _area_correlation(is_class[:, defined], probabilities[:, defined])
    return {
        "macro_auc": mean_interval(areas[defined], limits[defined], correlation),
        **{f"per_class_auc.{name}": limits[k] for k, name in enumerate(class_names)},
    }


def _area_correlation(is_class: NDArray[np.bool_], probabilities: FloatArray) -> FloatArray:
    """Return the correlation of the areas' errors, shape (classes, classes).

    It is 1 where it cannot be estimated: an area of exactly 0 or 1 does not vary with the images.
    Classes of few images also move it towards 1, since it is then estimated too low.
    """
    influences = np.array(
        [area_influence(*columns) for columns in zip(is_class.T, probabilities.T, strict=True)]
    ).reshape(is_class.shape[1], len(is_class))
    errors = np.sqrt((influences**2).sum(axis=1))
    correlation = ratio(influences @ influences.T, np.outer(errors, errors))
    correlation = np.clip(np.nan_to_num(correlation, nan=1.0), 0.0, 1.0)
    unknown = min(1.0, FEWEST_IMAGES / is_class.sum(axis=0).min(initial=len(is_class)))
    return correlation + unknown * (1.0 - correlation)


def average_precision_limits(
    is_class: NDArray[np.bool_], probabilities: FloatArray, class_names: Sequence[str]
) -> Limits:
    """Return the limits of the average precision of each class and of their mean.

    Score intervals with the number of positives as trials, after the binomial
    interval of Boyd, Eng & Page 2013 (doi:10.1007/978-3-642-40994-3_29).
    """
    values, positives = per_class(average_precision, is_class, probabilities), is_class.sum(axis=0)
    limits = wilson_interval(values * positives, positives)
    defined = np.isfinite(values)
    return {
        "macro_average_precision": mean_interval(values[defined], limits[defined]),
        **{f"average_precision.{name}": limits[k] for k, name in enumerate(class_names)},
    }
