"""The scores of a `metrics.json` as tables of a page, with their 95 % intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deeplens_tf.evaluation.html_page import Table

MAX_CLASSES = 100
"""Classes of which a table lists the scores; metrics.json has all."""

SCORE_NAMES = {
    "macro_auc": "Macro AUC (one against the rest)",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_average_precision": "Macro average precision",
    "expected_calibration_error": "Expected calibration error",
    "mae_dex": "Mean absolute error / dex",
    "rmse_dex": "Root mean square error / dex",
    "mae": "Mean absolute error",
    "rmse": "Root mean square error",
    "r2": "R²",
    "coverage_68": "Truths within the predicted 68 %",
    "coverage_95": "Truths within the predicted 95 %",
}
AREAS = {"AUC": "per_class_auc", "avg. precision": "average_precision"}
REPORTED = {"precision": "precision", "recall": "recall", "F1": "f1"}
SETTINGS = ("fraction",)  # floats of metrics.json that are no scores


def score_name(key: str) -> str:
    """Return what a score of `metrics.json` is called on a page."""
    return SCORE_NAMES.get(key, key)


def number(value: Any, decimals: int = 4) -> str:
    """Return a score as text."""
    defined = isinstance(value, int | float) and math.isfinite(value)
    return f"{value:.{decimals}f}" if defined else "undefined"


def interval(metrics: Mapping[str, Any], key: str) -> str:
    """Return the 95 % interval of a score; "" if it has none."""
    return _limits(metrics.get("intervals_95", {}).get(key))


def score_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the scores: of all images, per class, per threshold, and the matrix."""
    tables = [_overall(metrics)]
    if "classification_report" in metrics:
        tables += [_per_class(metrics), _thresholds(metrics), _matrix(metrics)]
    return tables


def _overall(metrics: Mapping[str, Any]) -> Table:
    control = metrics.get("control")
    header = ["score", "value", "95 % interval"]
    if control:
        header += ["untrained control", "95 % interval"]
    rows = []
    for key in _scores(metrics):
        row = [score_name(key), number(metrics[key]), interval(metrics, key)]
        if control:
            row += [number(control.get(key)), interval(control, key)]
        rows.append(row)
    return Table("Scores of all images", header, rows)


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key, value in metrics.items()
        if (value is None or isinstance(value, float)) and key not in SETTINGS
    ]


def _per_class(metrics: Mapping[str, Any]) -> Table:
    intervals = metrics["intervals_95"]
    rows = []
    for name in metrics["classes"][:MAX_CLASSES]:
        report = metrics["classification_report"][name]
        values = {f"{key}.{name}": metrics[key][name] for key in AREAS.values()}
        values |= {f"classification_report.{name}.{key}": report[key] for key in REPORTED.values()}
        cells = [_with_limits(value, intervals.get(key)) for key, value in values.items()]
        rows.append([name, str(metrics["counts"][name]), *cells])
    caption = "Scores of each class, with 95 % intervals"
    return Table(caption, ["class", "images", *AREAS, *REPORTED], rows)


def _thresholds(metrics: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{name}, at least {row['threshold']:g}",
            str(row["selected"]),
            *(_with_limits(row[key], row[f"{key}_95"]) for key in ("purity", "completeness")),
        ]
        for name in metrics["classes"][:MAX_CLASSES]
        for row in metrics["thresholds"][name]
    ]
    header = ["selected by the probability of", "images", "purity", "completeness"]
    return Table("Images selected by their probability", header, rows, folded=True)


def _matrix(metrics: Mapping[str, Any]) -> Table:
    names = metrics["classes"][:MAX_CLASSES]
    rows = [
        [name, *map(str, counts[:MAX_CLASSES])]
        for name, counts in zip(names, metrics["confusion_matrix"], strict=False)
    ]
    return Table("Confusion matrix as numbers", ["true class", *names], rows, folded=True)


def _with_limits(value: float | None, limits: Sequence[float] | None) -> str:
    return f"{number(value, 3)} {_limits(limits, 3)}".rstrip()


def _limits(limits: Sequence[float] | None, decimals: int = 4) -> str:
    return f"[{', '.join(number(limit, decimals) for limit in limits)}]" if limits else ""
