"""The report on a probe of a run's encoder and of its untrained control."""

from pathlib import Path
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.evaluation.report_folder import write_report
from deeplens_tf.evaluation.scored_split import (
    as_request_errors,
    require_image_shape,
    scored_images,
    split_to_score,
)
from deeplens_tf.files.products import encoder_file
from deeplens_tf.probes.frozen_features import Head, Kind, probe_encoder, untrained_encoder
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder


def evaluate_probe(
    run: Run,
    config: Config | None = None,
    head: Head = "classification",
    kind: Kind = "linear",
) -> tuple[Path, dict[str, Any]]:
    """Probe the encoder of a run and the same network before training, with the same labels.

    Args:
        run: a run with an encoder.
        config: the run's configuration with the data to probe on; None for the run's own.
            `finetune.fraction` is the fraction of the training labels to use; with the same seed,
            fine-tuning uses the same ones.
        head: what the probe predicts.
        kind: "linear" (logistic or ridge regression) or "knn".

    Returns:
        The folder of the report and its metrics, with those of the untrained network under
        `control`.

    Raises:
        RequestError: no encoder, one that does not match the data or whose features are not
            finite, or data without such labels.
        DataError: the images cannot be used.
    """
    config = config or run.load_config()
    fraction = config.finetune.fraction
    data = open_data(config)
    encoder, file = load_encoder(run.folder), encoder_file(run.folder)
    require_image_shape(encoder, data)
    split = split_to_score(data)
    with as_request_errors(file, data):
        metrics, control = (
            probe_encoder(network, data, split, head, kind, fraction, config.seed)
            for network in (encoder, untrained_encoder(config, data))
        )
    common = {"split": split, "head": head, **scored_images(config, data, split)}
    common |= {"labels_used": metrics["n_train"], "fraction": fraction}
    report = common | metrics | {"control": common | control}
    # Probes with few labels and with all of them need different folders to be compared.
    few = "" if fraction == 1 else f"-{fraction:g}"
    name = f"{split}-probe-{head}-{kind}{few}"
    return write_report(run.folder, report, folder_name=name), report
