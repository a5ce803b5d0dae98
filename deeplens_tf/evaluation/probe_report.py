"""The report on an encoder's probe and its untrained control."""

from pathlib import Path
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.data.batches import open_data
from deeplens_tf.evaluation.model_report import scored_images, split_to_score
from deeplens_tf.evaluation.report_folder import write_report
from deeplens_tf.files.products import encoder_file
from deeplens_tf.probes.frozen_features import Head, Kind, probe, untrained
from deeplens_tf.probes.outputs import require_image_shape
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_encoder


def evaluate_probe(run: Run, config: Config, head: Head, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """Probe the run's encoder, and its untrained twin, with the same labels.

    Args:
        run: a run with an encoder.
        config: the run's configuration, with the data to probe on. `finetune.fraction` is the
            share of the training labels used: with the same seed, the very ones that a
            fine-tuning uses.
        head: what the probe predicts.
        kind: "linear" (logistic or ridge regression) or "knn".

    Returns:
        The report's folder and its metrics; those of the untrained network under `control`.

    Raises:
        RequestError: no encoder, one that does not fit the data, one whose features are not
            finite, or data without such labels.
        DataError: the images cannot be used.
    """
    data = open_data(config)
    encoder, file = load_encoder(run.folder), encoder_file(run.folder)
    require_image_shape(encoder, data)
    split = split_to_score(data)
    metrics = probe(encoder, file, data, split, head, kind, config)
    control = probe(untrained(config, data), file, data, split, head, kind, config)
    common = {"split": split, "head": head, **scored_images(config, data, split)}
    common |= {"labels_used": metrics["n_train"], "fraction": config.finetune.fraction}
    report = common | metrics | {"control": common | control}
    # Probes with few labels and with all of them belong in one table.
    few = "" if config.finetune.fraction == 1 else f"-{config.finetune.fraction:g}"
    name = f"{split}-probe-{head}-{kind}{few}"
    return write_report(run.folder, report, folder_name=name), report
