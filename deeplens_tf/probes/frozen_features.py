"""Probes of an encoder on a data set, and the control: the same network before training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.config import Config
from deeplens_tf.data.image_data import ImageData
from deeplens_tf.data.label_selection import chosen_rows
from deeplens_tf.data.targets import target_values
from deeplens_tf.metrics.weighted import MIN_SPREAD_DEX
from deeplens_tf.models import build_encoder
from deeplens_tf.models.encoders import global_policy
from deeplens_tf.preprocessing.target import MASS, Target
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
        values: of the used images, class indices or what a regression predicts.
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
    target: Target = MASS,
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
        target: what a regression predicts.

    Returns:
        The metrics with their intervals, `probe` and `n_train`; and the predictions for the
        scored images.

    Raises:
        MissingTargets: the data have too few labels of that kind.
        NotFiniteOutputs: a feature is NaN or infinite.
    """
    targets = {
        "train": split_targets(data, "train", head, fraction, seed, target=target),
        split: split_targets(data, split, head, among=among, target=target),
    }
    for name, found in targets.items():
        _require_targets(name, head, found, target)
    train, test = (
        Examples(model_outputs(encoder, data, name, found.rows), found.values)
        for name, found in targets.items()
    )
    return fit_probe(train, test, head, kind, data.classes, seed)


def head_targets(data: ImageData, split: str, head: Head, target: Target) -> NDArray[Any]:
    """Return what a head predicts of each image of a split: class indices, or values.

    Without one it is -1, or NaN.
    """
    if head == "classification":
        return data.index(split)["label"].to_numpy()
    return target_values(data, split, target)


def is_known(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return True for each of `head_targets` that is known."""
    return ~np.isnan(values) if values.dtype.kind == "f" else values >= 0


def split_targets(
    data: ImageData,
    split: str,
    head: Head,
    fraction: float = 1.0,
    seed: int = 0,
    among: NDArray[np.bool_] | None = None,
    target: Target = MASS,
) -> Targets:
    """Return the targets of a split, or a fraction of each class as fine-tuning chooses it.

    `among` is True for each image that may be used, shape (images,); None for all. `target` is what
    a regression predicts.
    """
    values = head_targets(data, split, head, target)
    usable = is_known(values) & (True if among is None else among)
    rows = chosen_rows(data.index(split), usable, fraction, seed)
    return Targets(rows, values[rows])


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


def untrained_encoder(config: Config, image_shape: tuple[int, int, int]) -> keras.Model:
    """Return the control: the configured encoder with the initial weights of its run."""
    keras.utils.set_random_seed(config.seed)
    with global_policy(config.train.precision):
        return build_encoder(config.encoder.name, image_shape, **config.encoder.arguments())


def _require_targets(split: str, head: Head, targets: Targets, target: Target) -> None:
    needs_classes = head == "classification" and split == "train"
    if len(targets.values) > 1 and (targets.differ or not needs_classes):
        return
    value = "mass" if target.is_mass else target.label
    needs = "two classes" if head == "classification" else f"images with a {value}"
    raise MissingTargets(
        f"a {head} probe needs {needs} in the {split} split, and only {len(targets.values)} of "
        "its images can be used"
    )
