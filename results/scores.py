"""Scores of predictions, and their differences to the control and to scratch.

Differences are paired: both sides are scored on the same images, whose errors they share.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deeplens_tf.metrics.bootstrap import MetricFunction, bootstrap_intervals
from deeplens_tf.metrics.ranking import area_influence, area_under_curve
from deeplens_tf.metrics.weighted import FloatArray

NORMAL_95 = 1.959964
HARD = ("axion", "cdm")  # the two classes with substructure


@dataclass(frozen=True)
class Score:
    """A quantity with its 95 % interval over the test images."""

    quantity: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the value with its interval, as the tables have them."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def score_of(found: Iterable[Score], quantity: str) -> Score:
    """Return the score of a quantity, of those that `scores` or `differences` yields."""
    return next(score for score in found if score.quantity == quantity)


def scores(predictions: pd.DataFrame) -> Iterator[Score]:
    """Yield the scores of a classifier or of a regressor, from its predictions."""
    if "label" in predictions:
        for name, classes in _areas(predictions):
            yield area_score(name, *_area(predictions, classes))
    else:
        true = predictions["log10_mass_ev"].to_numpy()
        predicted = predictions["predicted"].to_numpy()
        yield from _with_intervals(_mass_scores, true, predicted)


def area_score(quantity: str, value: float, influence: FloatArray) -> Score:
    """Return an area with its interval, from what each image adds to its error (DeLong)."""
    half = NORMAL_95 * float(np.sqrt(np.square(influence).sum()))
    return Score(quantity, value, max(value - half, 0), min(value + half, 1))


def differences(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[Score]:
    """Yield the scores of one model minus those of another one on the same images.

    Raises:
        ValueError: the images differ.
    """
    if ours["file"].tolist() != theirs["file"].tolist():
        raise ValueError("both models must be scored on the same images")
    if "label" in ours:
        for name, classes in _areas(ours):
            a, error_a = _area(ours, classes)
            b, error_b = _area(theirs, classes)
            half = NORMAL_95 * float(np.sqrt(np.square(error_a - error_b).sum()))
            yield Score(name, a - b, a - b - half, a - b + half)
    else:
        true = ours["log10_mass_ev"].to_numpy()
        first, second = (table["predicted"].to_numpy() for table in (ours, theirs))
        yield from _with_intervals(_mass_differences, true, first, second)


def _with_intervals(function: MetricFunction, *arrays: FloatArray) -> Iterator[Score]:
    values = function(*arrays, np.ones((1, len(arrays[0]))))
    for name, interval in bootstrap_intervals(function, arrays, seed=0).items():
        low, high = interval or (np.nan, np.nan)
        yield Score(name, float(values[name][0]), low, high)


def _areas(predictions: pd.DataFrame) -> Iterator[tuple[str, tuple[str, ...]]]:
    classes = tuple(name[2:] for name in map(str, predictions) if name.startswith("p_"))
    yield "macro_auc", classes
    if set(HARD) < set(classes):
        yield "auc_axion_cdm", HARD


def _area(predictions: pd.DataFrame, classes: tuple[str, ...]) -> tuple[float, FloatArray]:
    """Return the mean of the one-against-rest areas of some classes, and each image's influence.

    Only the images of these classes count, by their probabilities given one of the classes. The
    variance of the area is the sum of the squares of the influences (DeLong et al. 1988).
    """
    among = predictions["label"].isin(classes).to_numpy()
    labels = predictions["label"].to_numpy()[among]
    columns = predictions[[f"p_{name}" for name in classes]].to_numpy()[among]
    shares = columns / np.maximum(columns.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    influence = np.zeros(len(predictions))
    areas = []
    for name, share in zip(classes, shares.T, strict=True):
        areas.append(area_under_curve(labels == name, share))
        influence[among] += area_influence(labels == name, share) / len(classes)
    return float(np.mean(areas)), influence


def _mass_scores(
    true: FloatArray, predicted: FloatArray, weights: FloatArray
) -> dict[str, FloatArray]:
    total = weights.sum(axis=1)
    mean = weights @ true / total
    squared_error = weights @ np.square(predicted - true)
    spread = weights @ np.square(true) - total * np.square(mean)
    return {"r2": 1 - squared_error / spread, "mae_dex": weights @ np.abs(predicted - true) / total}


def _mass_differences(
    true: FloatArray, ours: FloatArray, theirs: FloatArray, weights: FloatArray
) -> dict[str, FloatArray]:
    a, b = (_mass_scores(true, predicted, weights) for predicted in (ours, theirs))
    return {name: a[name] - b[name] for name in a}
