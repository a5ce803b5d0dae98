"""The report on a probe of a run's encoder and of its untrained control."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from deeplens_tf.config import Config
from deeplens_tf.data.matching import require_same_preprocessing
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.targets import configured_target
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
from deeplens_tf.files.products import encoder_file
from deeplens_tf.metrics.weighted import FloatArray
from deeplens_tf.preprocessing.target import MASS, Target
from deeplens_tf.probes.frozen_features import Head, Kind, probe_encoder, untrained_encoder
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder
from deeplens_tf.tracking.session import log_report


def evaluate_probe(
    run: Run,
    config: Config | None = None,
    head: Head = "classification",
    kind: Kind = "linear",
    command: Sequence[str] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Probe the encoder of a run and the same network before training, with the same labels.

    The test split is scored or, without one, the validation split; images whose labels the encoder
    was trained on are left out and counted. The report on other data than the run's has a folder of
    its own.

    Args:
        run: a run with an encoder.
        config: the run's configuration with the data to probe on; None for the run's own.
            `finetune.fraction` is the fraction of the training labels to use; with the same seed,
            fine-tuning uses the same ones.
        head: what the probe predicts.
        kind: "linear" (logistic or ridge regression) or "knn".
        command: arguments of the stage `evaluate`, which `report.html` repeats; None in Python.

    Returns:
        The folder of the report and its metrics, with those of the untrained network under
        `control`. Its predictions.csv has the predictions of both for each scored image.

    Raises:
        RequestError: no encoder, one that does not match the data or whose features are not
            finite, or data without such labels; there is nothing to score, or the validation
            split of this configuration is not the run's.
        DataError: the images cannot be used.
    """
    config = config or run.load_config()
    fraction = config.finetune.fraction
    encoder, file = load_encoder(run.folder), encoder_file(run.folder)
    data = open_data(config, encoder.preprocessing)
    where = (str(file), config.data.path, config.data.other_bands)
    require_same_preprocessing(encoder.preprocessing, data, *where)
    require_image_shape(encoder, data)
    target = configured_target(config.finetune, data) if head == "regression" else MASS
    with as_request_errors(file, data):
        scored = images_to_score(run, config, data, head, target, probe=True)
        probed, control = (
            probe_encoder(
                network, data, scored.split, head, kind, fraction, config.seed, scored.rows, target
            )
            for network in (encoder, untrained_encoder(config, data.image_shape))
        )
    common = {"split": scored.split, "head": head, **scored.facts}
    common |= {"labels_used": probed.metrics["n_train"], "fraction": fraction}
    own, untrained = (of_target(found.metrics, target) for found in (probed, control))
    report = common | own | {"control": common | untrained}
    # Probes with few labels and with all of them need different folders to be compared.
    few = "" if fraction == 1 else f"-{fraction:g}"
    name = f"{scored.folder_name}-probe-{head}-{kind}{few}"
    outputs = probed.outputs, control.outputs
    predictions = _predictions(scored, head, data.classes, target, outputs)
    predictions = predictions.join(scored.places())
    figures = (
        class_figures(scored.truths, probed.outputs, data.classes, probed.metrics)
        if head == "classification"
        else value_figures(scored.truths, probed.outputs, None, target)
    )
    page = partial(report_page, Evaluated(run, config, command), report, predictions, scored)
    folder = write_report(run.folder, report, predictions, figures, name, page)
    log_report(run, config.logging, folder)
    return folder, report


def _predictions(
    scored: ScoredImages,
    head: Head,
    classes: Sequence[str],
    target: Target,
    outputs: tuple[FloatArray, FloatArray],
) -> pd.DataFrame:
    """Return the predictions of both probes; the columns of the control begin with its name."""
    files = scored.scored["file"].tolist()
    tables = [
        classification_predictions(files, scored.truths, values, classes)
        if head == "classification"
        else regression_predictions(files, scored.truths, values, target=target)
        for values in outputs
    ]
    of_control = tables[1].drop(columns=tables[1].columns[:2]).add_prefix("control_")
    return tables[0].join(of_control)
