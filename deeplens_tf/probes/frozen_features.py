"""Probing an encoder on a data set, always beside the control: the same network untrained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.config import Config
from deeplens_tf.data.batches import PreparedData, image_batches
from deeplens_tf.data.label_selection import chosen_rows, has_mass
from deeplens_tf.errors import RequestError
from deeplens_tf.metrics.weighted import MIN_SPREAD_DEX
from deeplens_tf.models import build_encoder
from deeplens_tf.probes.outputs import BATCH_SIZE, predict
from deeplens_tf.probes.sklearn_probes import probe_classification, probe_regression

Head = Literal["classification", "regression"]
Kind = Literal["linear", "knn"]
KINDS = {
    "classification": {"linear": "logistic", "knn": "knn"},
    "regression": {"linear": "ridge", "knn": "knn"},
}


def untrained(config: Config, data: PreparedData) -> keras.Model:
    """Return the control: the configured encoder with the weights that its run began with."""
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.train.precision)
    try:
        return build_encoder(config.encoder.name, data.image_shape, **config.encoder.options())
    finally:
        keras.config.set_dtype_policy(policy)


def probe(
    encoder: keras.Model,
    file: Path,
    data: PreparedData,
    split: str,
    head: Head,
    kind: Kind,
    config: Config,
) -> dict[str, Any]:
    """Fit a probe on the configured share of the training split and score it on `split`.

    Args:
        encoder: image -> features.
        file: that the encoder was read from.
        data: the opened data.
        split: what is scored.
        head: what the probe predicts.
        kind: of the probe.
        config: of the run.

    Raises:
        RequestError: the data have no labels of that kind, or features are not finite.
    """
    train = targets_of(data, "train", head, config.finetune.fraction, config.seed)
    test = targets_of(data, split, head)
    for name, targets in (("train", train), (split, test)):
        _require_targets(data, name, head, targets)
    features = [
        predict(encoder, image_batches(data, part, BATCH_SIZE, targets.rows), file)
        for part, targets in (("train", train), (split, test))
    ]
    fitted = (features[0], train.values, features[1], test.values)
    return fit_probe(fitted, head, kind, data.classes, config.seed)


@dataclass(frozen=True)
class Targets:
    """What is to be predicted of a split's images.

    Attributes:
        rows: True for each image that is used, shape (images,).
        values: of those, class indices or log10 of the masses in eV.
    """

    rows: NDArray[np.bool_]
    values: NDArray

    @property
    def differ(self) -> bool:
        """Whether there is something to tell apart."""
        return len(self.values) > 1 and bool(np.ptp(self.values) > MIN_SPREAD_DEX)


def targets_of(
    data: PreparedData, split: str, head: Head, fraction: float = 1.0, seed: int = 0
) -> Targets:
    """Return the targets of a split, or of a share of each class as fine-tuning chooses it."""
    index = data.index(split)
    usable = (index["label"] >= 0).to_numpy() if head == "classification" else has_mass(index)
    rows = chosen_rows(index, usable, fraction, seed)
    chosen = index[rows]
    if head == "classification":
        return Targets(rows, chosen["label"].to_numpy())
    return Targets(rows, np.log10(chosen["mass_ev"].to_numpy()))


def fit_probe(
    fitted: tuple[NDArray, NDArray, NDArray, NDArray],
    head: Head,
    kind: Kind,
    classes: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Fit one of the `probes`.

    Args:
        fitted: training features and targets, features and targets that are scored.
        head: what is predicted.
        kind: of the probe.
        classes: of a classification.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    if head == "classification":
        return probe_classification(*fitted, classes, KINDS[head][kind], seed, resamples)
    return probe_regression(*fitted, KINDS[head][kind], seed, resamples)


def _require_targets(data: PreparedData, split: str, head: Head, targets: Targets) -> None:
    to_learn = head == "classification" and split == "train"
    if len(targets.values) > 1 and (targets.differ or not to_learn):
        return
    needs = "two classes" if head == "classification" else "images with a mass"
    raise RequestError(
        f"{data.folder}: a {head} probe needs {needs} in the {split} split, and "
        f"{len(targets.values)} of its images are of use"
    )
