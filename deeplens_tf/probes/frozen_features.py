"""Probes of an encoder on a data set, and the control: the same network before training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplens_tf.config import Config
from deeplens_tf.data.image_data import ImageData
from deeplens_tf.data.label_selection import chosen_rows, has_mass
from deeplens_tf.metrics.weighted import MIN_SPREAD_DEX
from deeplens_tf.models import build_encoder
from deeplens_tf.models.encoders import global_policy
from deeplens_tf.probes.outputs import model_outputs
from deeplens_tf.probes.sklearn_probes import Probed, probe_classification, probe_regression

Head = Literal["classification", "regression"]
Kind = Literal["linear", "knn"]
PROBES: dict[Head, dict[Kind, str]] = {
    "classification": {"linear": "logistic", "knn": "knn"},
    "regression": {"linear": "ridge", "knn": "knn"},
}


class MissingTargets(ValueError):
    """A split has too few labels or masses to fit or to score a probe."""


@dataclass(frozen=True)
class Targets:
    """What a probe predicts for the images of a split.

    Attributes:
        rows: True for each image that is used, shape (images,).
        values: of the used images, class indices or log10 of the masses in eV.
    """

    rows: NDArray[np.bool_]
    values: NDArray[Any]

    @property
    def differ(self) -> bool:
        """Whether there are at least two different values to distinguish."""
        return len(self.values) > 1 and bool(np.ptp(self.values) > MIN_SPREAD_DEX)


class Examples(NamedTuple):
    """Images as a probe takes them.

    Attributes:
        features: shape (images, dim).
        targets: shape (images,).
    """

    features: NDArray[np.float32]
    targets: NDArray[Any]


def probe_encoder(
    encoder: keras.Model,
    data: ImageData,
    split: str,
    head: Head,
    kind: Kind = "linear",
    fraction: float = 1.0,
    seed: int = 0,
    among: NDArray[np.bool_] | None = None,
) -> Probed:
    """Fit a probe to features of the training split and score it on another split.

    Args:
        encoder: images -> features.
        data: images in splits.
        split: the split to score.
        head: what the probe predicts.
        kind: "linear" (logistic or ridge regression) or "knn".
        fraction: fraction of the training labels to use; with the same seed, the same ones that
            fine-tuning uses.
        seed: of this choice and of the bootstrap.
        among: True for each image of the split to score that may be scored; None for all.

    Returns:
        The metrics with their intervals, `probe` and `n_train`; and the predictions for the
        scored images.

    Raises:
        MissingTargets: the data have too few labels of that kind.
        NotFiniteOutputs: a feature is NaN or infinite.
    """
    targets = {
        "train": split_targets(data, "train", head, fraction, seed),
        split: split_targets(data, split, head, among=among),
    }
    for name, found in targets.items():
        _require_targets(name, head, found)
    train, test = (
        Examples(model_outputs(encoder, data, name, found.rows), found.values)
        for name, found in targets.items()
    )
    return fit_probe(train, test, head, kind, data.classes, seed)


def has_target(index: pd.DataFrame, head: Head) -> NDArray[np.bool_]:
    """Return True for each row of a split's table that has a class, or a mass."""
    return (index["label"] >= 0).to_numpy() if head == "classification" else has_mass(index)


def split_targets(
    data: ImageData,
    split: str,
    head: Head,
    fraction: float = 1.0,
    seed: int = 0,
    among: NDArray[np.bool_] | None = None,
) -> Targets:
    """Return the targets of a split, or a fraction of each class as fine-tuning chooses it.

    `among` is True for each image that may be used, shape (images,); None for all.
    """
    index = data.index(split)
    usable = has_target(index, head) & (True if among is None else among)
    rows = chosen_rows(index, usable, fraction, seed)
    chosen = index[rows]
    if head == "classification":
        return Targets(rows, chosen["label"].to_numpy())
    return Targets(rows, np.log10(chosen["mass_ev"].to_numpy()))


def fit_probe(
    train: Examples,
    test: Examples,
    head: Head,
    kind: Kind,
    class_names: Sequence[str],
    seed: int,
    resamples: int = 1000,
) -> Probed:
    """Fit one of the `PROBES` to the training examples and score it on the test examples.

    Args:
        train: examples to fit the probe to.
        test: examples to score it on.
        head: what the probe predicts.
        kind: of the probe.
        class_names: of a classification.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    if head == "classification":
        return probe_classification(
            *train, *test, class_names, PROBES[head][kind], seed=seed, resamples=resamples
        )
    return probe_regression(*train, *test, PROBES[head][kind], seed=seed, resamples=resamples)


def untrained_encoder(config: Config, data: ImageData) -> keras.Model:
    """Return the control: the configured encoder with the initial weights of its run."""
    keras.utils.set_random_seed(config.seed)
    with global_policy(config.train.precision):
        return build_encoder(config.encoder.name, data.image_shape, **config.encoder.arguments())


def _require_targets(split: str, head: Head, targets: Targets) -> None:
    needs_classes = head == "classification" and split == "train"
    if len(targets.values) > 1 and (targets.differ or not needs_classes):
        return
    needs = "two classes" if head == "classification" else "images with a mass"
    raise MissingTargets(
        f"a {head} probe needs {needs} in the {split} split, and only {len(targets.values)} of "
        "its images can be used"
    )
