"""Probing an encoder on a data set, always beside the control: the same network untrained."""

from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from deeplens_tf.config import Config
from deeplens_tf.data.datasets import PreparedData, has_mass, image_batches, open_data
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.probes import probe_classification, probe_regression
from deeplens_tf.evaluation.report import write_report
from deeplens_tf.evaluation.scoring import BATCH_SIZE, require_image_shape, split_to_score
from deeplens_tf.models import build_encoder
from deeplens_tf.models.loading import load_encoder
from deeplens_tf.training.runs import Run

Head = Literal["classification", "regression"]
Kind = Literal["linear", "knn"]
KINDS = {
    "classification": {"linear": "logistic", "knn": "knn"},
    "regression": {"linear": "ridge", "knn": "knn"},
}


def evaluate_probe(run: Run, config: Config, head: Head, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """Probe the run's encoder, and its untrained twin, with all training labels.

    Args:
        run: a run with an encoder.
        config: the run's configuration, with the data to probe on.
        head: what the probe predicts.
        kind: "linear" (logistic or ridge regression) or "knn".

    Returns:
        The report's folder and its metrics; those of the untrained network under `control`.

    Raises:
        RequestError: no encoder, one that does not fit the data, or data without such labels.
        DataError: the images cannot be used.
    """
    data = open_data(config)
    encoder = load_encoder(run.folder)
    require_image_shape(encoder, data)
    split = split_to_score(data)
    metrics = probe(encoder, data, split, head, kind, config.seed)
    control = probe(untrained(config, data), data, split, head, kind, config.seed)
    content = data.manifest.splits[split].content
    common = {"split": split, "test_set": content, "head": head}
    report = common | metrics | {"control": common | control}
    return write_report(run.folder, report, folder_name=f"{split}-probe-{head}-{kind}"), report


def untrained(config: Config, data: PreparedData) -> keras.Model:
    """Return the control: the configured encoder with the weights it began with."""
    keras.utils.set_random_seed(config.seed)
    return build_encoder(config.encoder.name, data.image_shape, **config.encoder.options())


def probe(
    encoder: keras.Model, data: PreparedData, split: str, head: Head, kind: Kind, seed: int
) -> dict[str, Any]:
    """Fit a probe on the training split's features and score it on `split`.

    Raises:
        RequestError: the data have no labels of that kind.
    """
    train, test = (_features_and_targets(encoder, data, name, head) for name in ("train", split))
    if head == "classification":
        return probe_classification(*train, *test, data.classes, KINDS[head][kind], seed)
    return probe_regression(*train, *test, KINDS[head][kind], seed)


def _features_and_targets(
    encoder: keras.Model, data: PreparedData, split: str, head: Head
) -> tuple[np.ndarray, np.ndarray]:
    index = data.index(split)
    keep = (index["label"] >= 0).to_numpy() if head == "classification" else has_mass(index)
    if keep.sum() < 2 or (head == "classification" and len(data.classes) < 2):
        needs = "classes" if head == "classification" else "images with a mass"
        raise RequestError(f"{data.folder}: a {head} probe needs {needs} in the {split} split")
    features = encoder.predict(image_batches(data, split, BATCH_SIZE, keep), verbose=0)
    column = "label" if head == "classification" else "mass_ev"
    targets = index[column][keep].to_numpy()
    return features, targets if head == "classification" else np.log10(targets)
