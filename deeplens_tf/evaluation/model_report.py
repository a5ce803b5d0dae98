"""The report on a fine-tuned model: each image that it was not trained on, exactly once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deeplens_tf.config import Config
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.prepared_data import PreparedData, open_data
from deeplens_tf.data.targets import require_same_unit
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.metrics_file import of_target
from deeplens_tf.evaluation.report_folder import (
    classification_predictions,
    regression_predictions,
    write_report,
)
from deeplens_tf.evaluation.report_page import Evaluated, report_page
from deeplens_tf.evaluation.score_figures import class_figures, value_figures
from deeplens_tf.evaluation.scored_images import ScoredImages, images_to_score
from deeplens_tf.evaluation.scored_split import as_request_errors, require_image_shape
from deeplens_tf.metrics.classification import (
    CLASSIFIER_INTERVAL_METHODS,
    classification_intervals,
    classification_metrics,
)
from deeplens_tf.metrics.regression import (
    REGRESSOR_INTERVAL_METHODS,
    regression_intervals,
    regression_metrics,
)
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.preprocessing.statistics import unlike_training_lines
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_fine_tuned
from deeplens_tf.terminal import print_lines
from deeplens_tf.tracking.session import log_report

Report = tuple[dict[str, Any], pd.DataFrame, dict[str, Figure]]


def evaluate_run(
    run: Run, config: Config | None = None, command: Sequence[str] | None = None
) -> tuple[Path, dict[str, Any]]:
    """Score the model of a run on images that it was not trained on.

    Of the run's own data it is the test split or, without one, the validation split. Of other data
    it is their test split or, without one, all images, in a report folder of its own. Images whose
    content the run was trained on with labels are left out and counted. The classes of other data
    are found by their names and may be some of the model's.

    Args:
        run: a fine-tuning run.
        config: the run's configuration with the data to score on; None for the run's own.
        command: arguments of the stage `evaluate`, which `report.html` repeats; None in Python.

    Returns:
        The folder of the report and its metrics; `notes` lists what a reader must know of the
        scored images.

    Raises:
        RequestError: the run has no model, or one that does not match the data or whose outputs
            are not finite; there is nothing to score, or the validation split of this
            configuration is not the run's.
        DataError: the images cannot be used.
    """
    config = config or run.load_config()
    model = load_fine_tuned(run.model)
    data = open_data(config, model.preprocessing)
    _require_match(model, data, config.data.path, run.model)
    if config.finetune.target_unit is None:  # which would name the column's unit otherwise
        require_same_unit(data, model.target)
    scored = images_to_score(run, config, data, model.head_name, model.target)
    if not scored.rows.any():
        what = "mass" if model.target.is_mass else model.target.label
        raise RequestError(f"{data.folder}: no image of the {scored.split} split has a {what}")
    score = _score_classes if model.class_names else _score_masses
    with as_request_errors(run.model, data):
        metrics, predictions, figures = score(model, scored, config.seed)
    flags, counted = _unlike_training(model, scored)
    predictions["unlike_training"] = flags
    predictions = predictions.join(scored.places())
    head = {"split": scored.split, "head": model.head_name}
    metrics = {**head, **scored.facts, **counted, **metrics}
    evaluated = Evaluated(run, config, command)
    page = partial(report_page, evaluated, metrics, predictions, scored)
    name = scored.folder_name
    folder = write_report(run.folder, metrics, predictions, figures, name, page)
    log_report(run, config.logging, folder)
    return folder, metrics


def _score_classes(model: DownstreamModel, scored: ScoredImages, seed: int) -> Report:
    classes = model.class_names
    # The data may have some of the model's classes only, so other label indices.
    index_of = np.array([classes.index(name) for name in scored.data.classes])
    labels = index_of[scored.scored["label"].to_numpy()]
    probabilities = scored.outputs(model)
    metrics = classification_metrics(labels, probabilities, classes)
    intervals = classification_intervals(labels, probabilities, classes, seed)
    figures = class_figures(labels, probabilities, classes, metrics)
    files = scored.scored["file"].tolist()
    predictions = classification_predictions(files, labels, probabilities, classes)
    metrics |= {"intervals_95": intervals, "interval_methods": CLASSIFIER_INTERVAL_METHODS}
    return metrics, predictions, figures


def _score_masses(model: DownstreamModel, scored: ScoredImages, seed: int) -> Report:
    output = scored.outputs(model)
    true, predicted, target = scored.truths, output[:, 0], model.target
    std = output[:, 1] if model.head.gaussian else None
    metrics = regression_metrics(true, predicted, std)
    intervals = regression_intervals(true, predicted, std, seed=seed)
    figures = value_figures(true, predicted, std, target)
    files = scored.scored["file"].tolist()
    predictions = regression_predictions(files, true, predicted, std, target)
    what = "mass" if target.is_mass else "value"
    skipped = {f"n_skipped_without_{what}": int(np.isnan(scored.targets).sum())}
    metrics |= {"intervals_95": intervals, "interval_methods": REGRESSOR_INTERVAL_METHODS}
    return of_target(metrics, target) | skipped, predictions, figures


def _unlike_training(
    model: DownstreamModel, scored: ScoredImages
) -> tuple[np.ndarray | None, dict[str, int]]:
    """Return a flag for each scored image and the number of them, none for an earlier model."""
    if model.training_range is None:
        return None, {}
    flags = scored.unlike(model.training_range)
    print_lines(*unlike_training_lines(int(flags.sum()), len(flags)))
    return flags, {"n_unlike_training": int(flags.sum())}


def _require_match(model: DownstreamModel, data: PreparedData, folder: str, file: Path) -> None:
    known, found = ", ".join(model.class_names), data.classes
    if model.class_names and not found:
        raise RequestError(
            f"{folder}: no class folders, so no labels to score the classes {known} with: "
            "python -m deeplens_tf.predict predicts for unlabelled images"
        )
    unknown = [name for name in found if name not in model.class_names]
    if model.class_names and unknown:
        raise RequestError(
            f"{folder}: the model does not know the class {unknown[0]}, only {known}"
        )
    require_same_preprocessing(model.preprocessing, data, str(file), folder)
    require_image_shape(model, data)
