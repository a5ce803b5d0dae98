"""The two tasks of fine-tuning: classification, and regression of the axion mass.

A task defines the usable images, their targets, the head and the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.config import FinetuneConfig
from deeplens_tf.data.image_data import Example
from deeplens_tf.data.label_selection import chosen_rows, has_mass
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.losses import gaussian_negative_log_likelihood, mae_dex, squared_error_dex
from deeplens_tf.metrics.weighted import MIN_SPREAD_DEX
from deeplens_tf.models.heads import MassHead, classification_head
from deeplens_tf.terminal import print_lines


@dataclass(frozen=True)
class Task:
    """What a head is trained on.

    Attributes:
        class_names: of a classification; empty for a regression.
        head: new layer on the encoder's features.
        target: a batch of examples -> targets, float32.
        usable: table of a split -> True for each row that the task can use.
        loss: a Keras loss.
        metrics: Keras metrics.
    """

    class_names: tuple[str, ...]
    head: keras.layers.Layer
    target: Callable[[Example], tf.Tensor]
    usable: Callable[[pd.DataFrame], np.ndarray]
    loss: Any
    metrics: list[Any]

    def training_rows(self, data: PreparedData, config: FinetuneConfig, seed: int) -> np.ndarray:
        """Return True for the configured fraction of the usable training images."""
        index = data.index("train")
        return chosen_rows(index, self.usable(index), config.fraction, seed)


def possible_heads(data: PreparedData) -> list[str]:
    """Return the heads that the labels and masses of the training images suffice for."""
    index = data.index("train")
    labels, masses_ev = index["label"], index["mass_ev"][has_mass(index)].to_numpy()
    spread = np.log10(masses_ev).std() if len(masses_ev) else 0.0
    possible = {
        "classification": labels[labels != UNLABELLED].nunique() > 1,
        "regression": spread >= MIN_SPREAD_DEX,
    }
    return [head for head, suffices in possible.items() if suffices]


def build_task(config: FinetuneConfig, data: PreparedData, folder: str = "") -> Task:
    """Return the configured task on these data.

    Args:
        config: of the fine-tuning.
        data: the opened data.
        folder: that the user named, for messages; by default that of the prepared data.

    Raises:
        RequestError: no classes or no masses in the data, or too few masses in the configured
            fraction.
        DataError: all masses are the same.
    """
    build = {"classification": _classification, "regression": _regression}[config.head]
    return build(config, data, folder or data.name)


def _classification(config: FinetuneConfig, data: PreparedData, folder: str) -> Task:
    classes = data.classes
    if len(classes) < 2:
        raise RequestError(
            f"{folder}: classification needs images in two or more class folders, and there are "
            f"{len(classes)}: give such a folder by --data{_other_head(data)}"
        )
    return Task(
        class_names=classes,
        head=classification_head(len(classes)),
        target=lambda batch: tf.one_hot(batch["label"], len(classes)),
        usable=lambda index: np.ones(len(index), bool),
        loss="categorical_crossentropy",
        metrics=[
            "accuracy",
            keras.metrics.AUC(multi_label=True, num_labels=len(classes), name="auc"),
        ],
    )


def _other_head(data: PreparedData) -> str:
    return ", or --head regression" if "regression" in possible_heads(data) else ""


def _regression(config: FinetuneConfig, data: PreparedData, folder: str) -> Task:
    index = data.index("train")
    _require_masses(folder, index)
    print_lines(_skipped(data, index))
    log10_masses = _chosen_masses(config, data, index)
    gaussian = config.likelihood == "gaussian"
    mean, std = (log10_masses.mean(), log10_masses.std()) if config.standardise else (0.0, 1.0)
    return Task(
        class_names=(),
        head=MassHead(float(mean), float(std), gaussian),
        target=_log10_mass,
        usable=has_mass,
        loss=gaussian_negative_log_likelihood if gaussian else squared_error_dex,
        metrics=[mae_dex],
    )


def _require_masses(folder: str, index: pd.DataFrame) -> None:
    masses_ev = index["mass_ev"][has_mass(index)].to_numpy()
    if len(masses_ev) < 2:
        raise RequestError(
            f"{folder}: regression needs images with a mass, and {len(masses_ev)} of "
            f"{len(index)} training images have one: see data/README.md for masses.csv"
        )
    if np.log10(masses_ev).std() < MIN_SPREAD_DEX:
        raise DataError(
            f"{folder}: all {len(masses_ev)} training images with a mass have the same mass, "
            f"{masses_ev[0]:g} eV: there is nothing to learn"
        )


def _chosen_masses(
    config: FinetuneConfig, data: PreparedData, index: pd.DataFrame
) -> NDArray[np.float64]:
    """Return log10 of the masses to train on; other masses must not influence the head."""
    chosen = chosen_rows(index, has_mass(index), config.fraction, data.seed)
    log10_masses = np.log10(index["mass_ev"][chosen].to_numpy())
    if log10_masses.std() < MIN_SPREAD_DEX:
        raise RequestError(
            f"finetune.fraction {config.fraction:g} leaves {len(log10_masses)} of "
            f"{has_mass(index).sum()} training images with a mass, without two different "
            "masses: set a larger fraction"
        )
    return log10_masses


def _log10_mass(batch: Example) -> tf.Tensor:
    # The logarithm is taken in float64: masses near 1e-24 have few digits in float32.
    log10_mass_ev = tf.math.log(batch["mass_ev"]) / np.log(10.0)
    return tf.cast(log10_mass_ev[:, None], tf.float32)  # (batch, 1)


def _skipped(data: PreparedData, index: pd.DataFrame) -> str:
    without = index["label"][~has_mass(index)].value_counts().sort_index()
    names = [f"{count} of {_class_name(data, label)}" for label, count in without.items()]
    return f"regression: {has_mass(index).sum()} training images have a mass; skipped: " + (
        ", ".join(names) or "none"
    )


def _class_name(data: PreparedData, label: Any) -> str:
    return data.classes[int(label)] if label >= 0 else "unlabelled images"
