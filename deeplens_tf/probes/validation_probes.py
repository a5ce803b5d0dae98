"""What probes say of an encoder that is still being trained, on its own training's images."""

import math
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.config import Config
from deeplens_tf.data.batches import WHOLE, PreparedData, image_batches
from deeplens_tf.probes.frozen_features import KINDS, Head, Kind, Targets, fit_probe, targets_of
from deeplens_tf.probes.outputs import BATCH_SIZE

SCORES = {"classification": "macro_auc", "regression": "r2"}
SPLITS = ("train", "validation")

Features = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ValidationProbes:
    """Probes fitted on the training split, as `evaluate_probe` fits them, scored on validation.

    Attributes:
        data: images and labels.
        config: of the run.
        heads: what the data have labels for.
    """

    data: PreparedData
    config: Config
    heads: tuple[Head, ...]

    @property
    def names(self) -> list[str]:
        """What the scores are called, such as `logistic_macro_auc`."""
        return [_name(head, kind) for head in self.heads for kind in KINDS[head]]

    def scores(self, encoder: keras.Model) -> dict[str, float]:
        """Return each probe's score by its name; NaN for all where a feature is not finite."""
        features = {split: self._features(encoder, split) for split in SPLITS}
        if not all(np.isfinite(values).all() for values in features.values()):
            return dict.fromkeys(self.names, math.nan)
        return {
            _name(head, kind): self._score(features, head, kind)
            for head in self.heads
            for kind in KINDS[head]
        }

    def _features(self, encoder: keras.Model, split: str) -> NDArray[np.float32]:
        batches = image_batches(self.data, split, BATCH_SIZE)
        return np.asarray(encoder.predict(batches, verbose=0), np.float32)

    def _score(self, features: Features, head: Head, kind: Kind) -> float:
        train, validation = targets_for(self.data, self.config, head)
        fitted = (
            *(features["train"][train.rows], train.values),
            *(features["validation"][validation.rows], validation.values),
        )
        scores = fit_probe(fitted, head, kind, self.data.classes, self.config.seed, resamples=1)
        value = scores[SCORES[head]]
        return math.nan if value is None else value


def validation_probes(data: PreparedData, config: Config) -> ValidationProbes:
    """Return the probes for which a training's data have labels; it may be none."""
    data = replace(data, share=WHOLE)
    validated = data.count("validation") > 0
    heads = (
        head
        for head in SCORES
        if validated and all(targets.differ for targets in targets_for(data, config, head))
    )
    return ValidationProbes(data, config, tuple(heads))


def targets_for(data: PreparedData, config: Config, head: Head) -> tuple[Targets, Targets]:
    """Return the configured share of the training split's targets, and all of validation's."""
    train = targets_of(data, "train", head, config.finetune.fraction, config.seed)
    return train, targets_of(data, "validation", head)


def _name(head: Head, kind: Kind) -> str:
    return f"{KINDS[head][kind]}_{SCORES[head]}"
