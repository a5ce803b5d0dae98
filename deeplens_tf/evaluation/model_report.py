"""The report on a fine-tuned model: every image of a split is scored exactly once."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deeplens_tf.config import Config
from deeplens_tf.data.label_selection import has_mass
from deeplens_tf.data.prepared_data import PreparedData, open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.report_folder import (
    classification_predictions,
    regression_predictions,
    write_report,
)
from deeplens_tf.evaluation.scored_split import (
    as_request_errors,
    require_image_shape,
    scored_images,
    split_to_score,
)
from deeplens_tf.figures.classifier_figures import (
    confusion_matrix_figure,
    reliability_figure,
    roc_curves,
)
from deeplens_tf.figures.mass_figures import predicted_against_true
from deeplens_tf.metrics.classification import classification_intervals, classification_metrics
from deeplens_tf.metrics.regression import regression_intervals, regression_metrics
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.probes.outputs import model_outputs
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_fine_tuned

Report = tuple[dict[str, Any], pd.DataFrame, dict[str, Figure]]


def evaluate_run(run: Run, config: Config | None = None) -> tuple[Path, dict[str, Any]]:
    """Score the model of a run on the test split, or on the validation split without one.

    The report replaces an earlier one of that split, even if that was of other data; it names the
    data.

    Args:
        run: a fine-tuning run.
        config: the run's configuration with the data to score on; None for the run's own.

    Returns:
        The folder of the report and its metrics.

    Raises:
        RequestError: the run has no model, or one that does not match the data or whose outputs
            are not finite.
        DataError: the images cannot be used.
    """
    config = config or run.load_config()
    model = load_fine_tuned(run.model)
    data = open_data(config)
    _require_match(model, data)
    split = split_to_score(data)
    score = _score_classes if model.class_names else _score_masses
    with as_request_errors(run.model, data):
        metrics, predictions, figures = score(model, data, split, config.seed)
    scored_on = scored_images(config, data, split)
    metrics = {"split": split, "head": model.head_name, **scored_on, **metrics}
    return write_report(run.folder, metrics, predictions, figures), metrics


def _score_classes(model: DownstreamModel, data: PreparedData, split: str, seed: int) -> Report:
    index = data.index(split)
    labels, classes = index["label"].to_numpy(), data.classes
    probabilities = model_outputs(model, data, split)
    metrics = classification_metrics(labels, probabilities, classes)
    intervals = classification_intervals(labels, probabilities, classes, seed)
    error = metrics["expected_calibration_error"]
    figures = {
        "roc_curves": roc_curves(labels, probabilities, classes),
        "confusion_matrix": confusion_matrix_figure(metrics["confusion_matrix"], classes),
        "reliability": reliability_figure(metrics["reliability"], error),
    }
    files = index["file"].tolist()
    predictions = classification_predictions(files, labels, probabilities, classes)
    return metrics | {"intervals_95": intervals}, predictions, figures


def _score_masses(model: DownstreamModel, data: PreparedData, split: str, seed: int) -> Report:
    index = data.index(split)
    keep = has_mass(index)
    if not keep.any():
        raise RequestError(f"{data.folder}: no image of the {split} split has a mass")
    index = index[keep]
    output = model_outputs(model, data, split, keep)
    true, predicted = np.log10(index["mass_ev"].to_numpy()), output[:, 0]
    std = output[:, 1] if model.head.gaussian else None
    metrics = regression_metrics(true, predicted, std)
    intervals = regression_intervals(true, predicted, std, seed=seed)
    figures = {"predicted_against_true": predicted_against_true(true, predicted, std)}
    predictions = regression_predictions(index["file"].tolist(), true, predicted, std)
    skipped = {"n_skipped_without_mass": int((~keep).sum())}
    return metrics | skipped | {"intervals_95": intervals}, predictions, figures


def _require_match(model: DownstreamModel, data: PreparedData) -> None:
    if model.class_names and model.class_names != data.classes:
        raise RequestError(
            f"the model distinguishes the classes {', '.join(model.class_names)}, "
            f"and the data has {', '.join(data.classes) or 'none'}"
        )
    require_image_shape(model, data)
