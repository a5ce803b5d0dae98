"""Probes of an encoder during its training, on the images of that training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import keras

from deeplens_tf.config import Config
from deeplens_tf.data.image_data import WHOLE
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.targets import configured_target
from deeplens_tf.probes.frozen_features import (
    PROBES,
    Examples,
    Head,
    Kind,
    Targets,
    fit_probe,
    split_targets,
)
from deeplens_tf.probes.outputs import NotFiniteOutputs, model_outputs

METRICS: dict[Head, str] = {"classification": "macro_auc", "regression": "r2"}
PROBED_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class ValidationProbes:
    """Probes fitted to the training split and scored on the validation split.

    They use the training labels that `evaluate_probe` uses.

    Attributes:
        data: images and labels.
        targets: for each head that the data have labels for, those of the two `PROBED_SPLITS`.
        seed: of the run.
    """

    data: PreparedData
    targets: Mapping[Head, tuple[Targets, Targets]]
    seed: int

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads that the data have labels for."""
        return tuple(self.targets)

    @property
    def names(self) -> list[str]:
        """The names of the scores, such as `logistic_macro_auc`."""
        return [_name(head, kind) for head in self.targets for kind in PROBES[head]]

    def scores(self, encoder: keras.Model) -> dict[str, float]:
        """Return the score of each probe by its name; NaN for all if a feature is not finite."""
        try:
            features = [
                model_outputs(encoder, self.data, split, show_progress=False)
                for split in PROBED_SPLITS
            ]
        except NotFiniteOutputs:
            return dict.fromkeys(self.names, math.nan)
        scores = {}
        for head, targets in self.targets.items():
            train, validation = (
                Examples(rows[found.rows], found.values)
                for rows, found in zip(features, targets, strict=True)
            )
            for kind in PROBES[head]:
                scores[_name(head, kind)] = self._score(train, validation, head, kind)
        return scores

    def _score(self, train: Examples, validation: Examples, head: Head, kind: Kind) -> float:
        classes = self.data.classes
        probed = fit_probe(train, validation, head, kind, classes, self.seed, resamples=1)
        value = probed.metrics[METRICS[head]]
        return math.nan if value is None else value


def build_validation_probes(data: PreparedData, config: Config) -> ValidationProbes:
    """Return the probes that the labels of a run's data allow, possibly none."""
    data = replace(data, share=WHOLE)
    targets: dict[Head, tuple[Targets, Targets]] = {}
    target = configured_target(config.finetune, data)
    if data.count("validation"):
        for head in METRICS:
            fraction = config.finetune.fraction
            train = split_targets(data, "train", head, fraction, config.seed, target=target)
            validation = split_targets(data, "validation", head, target=target)
            if train.differ and validation.differ:
                targets[head] = train, validation
    return ValidationProbes(data, targets, config.seed)


def _name(head: Head, kind: Kind) -> str:
    return f"{PROBES[head][kind]}_{METRICS[head]}"
