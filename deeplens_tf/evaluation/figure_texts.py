"""What the figures of a report show, in words: for readers who do not see them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from deeplens_tf.evaluation.metrics_file import quantities_of_report
from deeplens_tf.evaluation.score_tables import number, score_name


def figure_text(name: str, metrics: Mapping[str, Any]) -> str:
    """Return what a figure of the report shows.

    Args:
        name: of its file, without extension.
        metrics: of the report.
    """
    texts = {
        "roc_curves": _roc_curves,
        "confusion_matrix": _confusion_matrix,
        "reliability": _reliability,
        "predicted_against_true": _predicted_against_true,
    }
    return texts[name](metrics) if name in texts else name.replace("_", " ")


def curves_text(history: pd.DataFrame) -> str:
    """Return what the training curves show: their first and last values.

    Args:
        history: as `run_histories.read_histories` returns.
    """
    parts = []
    for column in ("loss", "val_loss"):
        values = history[column].dropna().tolist() if column in history else []
        if values:
            parts.append(f"{column} from {values[0]:.3g} to {values[-1]:.3g}")
    changes = f": {', '.join(parts)}" if parts else ""
    return f"Training curves over {len(history)} epochs{changes}"


def _roc_curves(metrics: Mapping[str, Any]) -> str:
    areas = metrics["per_class_auc"]
    listed = ", ".join(f"{name} {number(area)}" for name, area in areas.items())
    return f"ROC curves of one class against the rest, with the areas under them: {listed}"


def _confusion_matrix(metrics: Mapping[str, Any]) -> str:
    matrix, names = np.asarray(metrics["confusion_matrix"]), metrics["classes"]
    correct = f"{np.trace(matrix)} of {matrix.sum()} images are on the diagonal"
    wrong = matrix - np.diag(np.diag(matrix))
    if not wrong.any():
        return f"Confusion matrix: {correct}"
    true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    most = f"{wrong[true, predicted]} of {names[true]} predicted as {names[predicted]}"
    return f"Confusion matrix: {correct}; the most frequent mistake is {most}"


def _reliability(metrics: Mapping[str, Any]) -> str:
    error = number(metrics["expected_calibration_error"])
    return (
        "Accuracy against confidence, with the number of images at each confidence; the expected "
        f"calibration error is {error}"
    )


def _predicted_against_true(metrics: Mapping[str, Any]) -> str:
    keys = quantities_of_report(metrics)
    scores = ", ".join(f"{score_name(key)} {number(metrics[key])}" for key in keys)
    return f"Predicted against true values, and the residuals below: {scores}"
