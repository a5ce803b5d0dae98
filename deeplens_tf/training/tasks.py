"""The two tasks of fine-tuning: classification, and regression of a mass or another quantity.

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
from deeplens_tf.data.targets import (
    columns_of_numbers,
    configured_target,
    target_of_batches,
    target_values,
)
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.losses import gaussian_negative_log_likelihood, mae, mae_dex, squared_error_dex
from deeplens_tf.metrics.weighted import MIN_SPREAD_DEX
from deeplens_tf.models.heads import MIN_STD_DEX, MassHead, classification_head
from deeplens_tf.preprocessing.target import MASS, Target
from deeplens_tf.terminal import print_lines


@dataclass(frozen=True)
class Task:
    """What a head is trained on.

    Attributes:
        class_names: of a classification; empty for a regression.
        head: new layer on the encoder's features.
        target: name of a split -> a function from a batch of its examples to targets, float32.
        usable: name of a split -> True for each of its images that the task can use.
        loss: a Keras loss.
        metrics: Keras metrics.
        quantity: what a regression predicts.
        loss_weight: factor of the loss; None for 1.
    """

    class_names: tuple[str, ...]
    head: keras.layers.Layer
    target: Callable[[str], Callable[[Example], tf.Tensor]]
    usable: Callable[[str], np.ndarray]
    loss: Any
    metrics: list[Any]
    quantity: Target = MASS
    loss_weight: float | None = None

    def training_rows(self, data: PreparedData, config: FinetuneConfig, seed: int) -> np.ndarray:
        """Return True for the configured fraction of the usable training images."""
        index = data.index("train")
        return chosen_rows(index, self.usable("train"), config.fraction, seed)


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
        target=lambda split: lambda batch: tf.one_hot(batch["label"], len(classes)),
        usable=lambda split: np.ones(data.count(split), bool),
        loss="categorical_crossentropy",
        metrics=[
            "accuracy",
            keras.metrics.AUC(multi_label=True, num_labels=len(classes), name="auc"),
        ],
    )


def _other_head(data: PreparedData) -> str:
    return ", or --head regression" if "regression" in possible_heads(data) else ""


def _regression(config: FinetuneConfig, data: PreparedData, folder: str) -> Task:
    quantity = configured_target(config, data)
    index, values = data.index("train"), target_values(data, "train", quantity)
    _require_values(folder, values, quantity, data)
    print_lines(_skipped(data, index, values, quantity))
    chosen = _chosen_values(config, data, index, values, quantity)
    gaussian = config.likelihood == "gaussian"
    mean, std = (chosen.mean(), chosen.std()) if config.standardise else (0.0, 1.0)
    head = MassHead(float(mean), float(std), gaussian)
    if not quantity.log10:  # whose values may be of any size
        head = MassHead(float(mean), float(std), gaussian, min_std=MIN_STD_DEX * float(std))
    scaled = config.standardise and not (gaussian or quantity.log10)
    return Task(
        class_names=(),
        head=head,
        target=lambda split: target_of_batches(data, split, quantity),
        usable=lambda split: ~np.isnan(target_values(data, split, quantity)),
        loss=gaussian_negative_log_likelihood if gaussian else squared_error_dex,
        metrics=[mae_dex if quantity.log10 else mae],
        quantity=quantity,
        loss_weight=1 / float(std) ** 2 if scaled else None,
    )


def _require_values(
    folder: str, values: NDArray[np.float64], quantity: Target, data: PreparedData
) -> None:
    known = values[~np.isnan(values)]
    what = "mass" if quantity.is_mass else quantity.label
    if len(known) < 2:
        raise RequestError(
            f"{folder}: regression needs images with a {what}, and {len(known)} of {len(values)} "
            f"training images have one: {_remedy(quantity, data)}"
        )
    if known.std() < MIN_SPREAD_DEX:
        same = f"{10 ** known[0]:g} eV" if quantity.is_mass else f"{known[0]:g}, to 1e-6"
        raise DataError(
            f"{folder}: all {len(known)} training images with a {what} have the same {what}, "
            f"{same}: {_why_no_spread(known, quantity)}"
        )


def _why_no_spread(known: NDArray[np.float64], quantity: Target) -> str:
    if np.ptp(known) and not quantity.log10:
        return "set finetune.log10=true, or another unit in the table"
    return "there is nothing to learn"


def _remedy(quantity: Target, data: PreparedData) -> str:
    columns = columns_of_numbers(data)
    if quantity.is_mass and columns:
        return f"set finetune.target to a column of the catalogue, {', '.join(columns)}"
    return "see data/README.md for " + ("masses.csv" if quantity.is_mass else "catalogues")


def _chosen_values(
    config: FinetuneConfig,
    data: PreparedData,
    index: pd.DataFrame,
    values: NDArray[np.float64],
    quantity: Target,
) -> NDArray[np.float64]:
    """Return the values to train on; others must not influence the head."""
    usable = ~np.isnan(values)
    chosen = values[chosen_rows(index, usable, config.fraction, data.seed)]
    one, many = ("mass", "masses") if quantity.is_mass else ("value", "values")
    if chosen.std() < MIN_SPREAD_DEX:
        raise RequestError(
            f"finetune.fraction {config.fraction:g} leaves {len(chosen)} of {usable.sum()} "
            f"training images with a {one}, without two different {many}: set a larger fraction"
        )
    return chosen


def _skipped(
    data: PreparedData, index: pd.DataFrame, values: NDArray[np.float64], quantity: Target
) -> str:
    without = index["label"][np.isnan(values)].value_counts().sort_index()
    names = [f"{count} of {_class_name(data, label)}" for label, count in without.items()]
    what, have = (
        ("regression", "a mass")
        if quantity.is_mass
        else (f"regression of {quantity.label}", "a value")
    )
    found = f"{what}: {(~np.isnan(values)).sum()} training images have {have}; skipped: "
    return found + (", ".join(names) or "none")


def _class_name(data: PreparedData, label: Any) -> str:
    return data.classes[int(label)] if label >= 0 else "unlabelled images"
