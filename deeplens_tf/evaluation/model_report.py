"""From a fine-tuned model and a split to its report: every image scored exactly once."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deeplens_tf.config import Config
from deeplens_tf.data.batches import PreparedData, image_batches, open_data
from deeplens_tf.data.label_selection import has_mass
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.report_folder import (
    classification_predictions,
    regression_predictions,
    write_report,
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
from deeplens_tf.probes.outputs import BATCH_SIZE, predict, require_image_shape
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_downstream
from deeplens_tf.terminal import print_lines

Report = tuple[dict[str, Any], pd.DataFrame, dict[str, Figure]]


def evaluate(run: Run, config: Config) -> tuple[Path, dict[str, Any]]:
    """Score the run's model on the test split, or without one on the validation split.

    The report replaces an earlier one of that split, be it of other data; it names its own.

    Args:
        run: a fine-tuning run.
        config: the run's configuration, with the data to score on.

    Returns:
        The report's folder and the metrics in it.

    Raises:
        RequestError: the run holds no model, one that does not fit the data, or one whose
            outputs are not finite.
        DataError: the images cannot be used.
    """
    model = load_downstream(run.model)
    data = open_data(config)
    _require_fit(model, data)
    split = split_to_score(data)
    score = _score_classes if model.class_names else _score_masses
    metrics, predictions, figures = score(model, run.model, data, split, config.seed)
    scored_on = scored_images(config, data, split)
    metrics = {"split": split, "head": model.head_name, **scored_on, **metrics}
    return write_report(run.folder, metrics, predictions, figures), metrics


def _score_classes(
    model: DownstreamModel, file: Path, data: PreparedData, split: str, seed: int
) -> Report:
    index = data.index(split)
    labels, classes = index["label"].to_numpy(), data.classes
    probabilities = predict(model, image_batches(data, split, BATCH_SIZE), file)
    metrics = classification_metrics(labels, probabilities, classes)
    intervals = classification_intervals(labels, probabilities, classes, seed)
    figures = {
        "roc_curves": roc_curves(labels, probabilities, classes),
        "confusion_matrix": confusion_matrix_figure(metrics["confusion_matrix"], classes),
        "reliability": reliability_figure(metrics["reliability"]),
    }
    predictions = classification_predictions(index["file"], labels, probabilities, classes)
    return metrics | {"intervals_95": intervals}, predictions, figures


def _score_masses(
    model: DownstreamModel, file: Path, data: PreparedData, split: str, seed: int
) -> Report:
    index = data.index(split)
    keep = has_mass(index)
    if not keep.any():
        raise RequestError(f"{data.folder}: no image of the {split} split carries a mass")
    index = index[keep]
    output = predict(model, image_batches(data, split, BATCH_SIZE, keep), file)
    true, predicted = np.log10(index["mass_ev"].to_numpy()), output[:, 0]
    std = output[:, 1] if model.head.gaussian else None
    metrics = regression_metrics(true, predicted, std)
    intervals = regression_intervals(true, predicted, std, seed=seed)
    figures = {"predicted_against_true": predicted_against_true(true, predicted, std)}
    predictions = regression_predictions(index["file"], true, predicted, std)
    skipped = {"n_skipped_without_mass": int((~keep).sum())}
    return metrics | skipped | {"intervals_95": intervals}, predictions, figures


def scored_images(config: Config, data: PreparedData, split: str) -> dict[str, Any]:
    """Return what a report says of the images it is about: their digest, and where they lay."""
    return {
        "test_set": data.manifest.splits[split].content,
        "data": {"path": config.data.path, "fingerprint": data.manifest.fingerprint},
    }


def split_to_score(data: PreparedData) -> str:
    """Return "test", or without such a split "validation", and say so.

    Raises:
        RequestError: there is neither.
    """
    if data.count("test"):
        return "test"
    if not data.count("validation"):
        raise RequestError(f"{data.folder}: neither a test nor a validation split to score")
    print_lines(
        "no test split (a folder <name>_test beside the data): scoring the validation split"
    )
    return "validation"


def _require_fit(model: DownstreamModel, data: PreparedData) -> None:
    if model.class_names and model.class_names != data.classes:
        raise RequestError(
            f"the model tells {', '.join(model.class_names)} apart, "
            f"and the data's classes are {', '.join(data.classes) or 'none'}"
        )
    require_image_shape(model, data)
