"""A probe of any encoder, without a run folder or a configuration."""

from typing import Any, get_args

import keras

from deeplens_tf.data.image_data import ImageData
from deeplens_tf.models.encoders import (
    build_encoder_variables,
    copy_of,
    feature_shape,
    image_shape_of,
)
from deeplens_tf.probes.frozen_features import Head, Kind, MissingTargets, probe_encoder
from deeplens_tf.probes.outputs import NotFiniteOutputs


def probe(
    encoder: keras.Model,
    data: ImageData,
    *,
    head: Head | None = None,
    kind: Kind = "linear",
    fraction: float = 1.0,
    split: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what the features of an encoder contain, next to those of an untrained control.

    The encoder stays frozen. A simple model is fitted to its features of the labelled training
    images and scored on another split. Which images the encoder was trained on is not known here,
    so none is left out; `evaluate_probe` compares them with those of a run. The control is the
    same network with fresh random weights; they come from Keras's global generator, so call
    `keras.utils.set_random_seed` first for repeatable numbers.

    Args:
        encoder: any built Keras model, images -> features (batch, dim).
        data: images with a training split and the split to score, as `deeplens_tf.data` opens.
        head: "classification" or "regression" of log10 masses; None for classification if the
            data have classes, else regression.
        kind: "linear" (logistic or ridge regression) or "knn".
        fraction: fraction of the training labels to use, above 0 and at most 1.
        split: "test" or "validation"; None for the test split, or for validation without one.
        seed: of the choice of labels and of the bootstrap.

    Returns:
        `split`, `head`, `probe`, `n_train`, the metrics (see `classification_metrics` and
        `regression_metrics`) with `intervals_95`, and `control`: the same for the untrained
        network.

    Raises:
        ValueError: an unknown head, kind or split, a fraction out of range, an encoder that takes
            other images, whose features are not finite or that cannot be copied for the control,
            or data without such labels.
    """
    if head is None and not data.classes and not data.index("train")["mass_ev"].notna().any():
        raise ValueError(f"data must have labels or masses. Received: {data.name} without either")
    if head is None:
        head = "classification" if data.classes else "regression"
    if split is None:
        split = "test" if data.count("test") else "validation"
    _check_choices(head, kind, fraction, split)
    _check_match(encoder, data, split)
    try:
        metrics, control = (
            probe_encoder(network, data, split, head, kind, fraction, seed).metrics
            for network in (encoder, _untrained(encoder))
        )
    except MissingTargets as error:
        raise ValueError(f"data must have labels for head={head!r}. Received: {error}") from error
    except NotFiniteOutputs as error:
        raise ValueError(f"encoder must return finite features. Received: {error}") from error
    common = {"split": split, "head": head}
    return {**common, **metrics, "control": {**common, **control}}


def _untrained(encoder: keras.Model) -> keras.Model:
    """Return the same network with fresh random weights."""
    network = copy_of(encoder, encoder.name)
    build_encoder_variables(network)  # or other draws could come before those of its weights
    return network


def _check_choices(head: str, kind: str, fraction: float, split: str) -> None:
    choices = (
        ("head", head, get_args(Head)),
        ("kind", kind, get_args(Kind)),
        ("split", split, ("test", "validation")),
    )
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(
                f"{name} must be one of {', '.join(allowed)}. Received: {name}={value!r}"
            )
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1. Received: fraction={fraction}")


def _check_match(encoder: keras.Model, data: ImageData, split: str) -> None:
    if hasattr(encoder, "encoder"):
        raise ValueError(
            f"encoder must be one without heads. Received: {encoder.name}; pass its encoder"
        )
    image_shape = image_shape_of(encoder)
    feature_shape(encoder)
    if image_shape != data.image_shape:
        raise ValueError(
            f"encoder must take the images of the data, {data.image_shape}. Received: {image_shape}"
        )
    trained, own = getattr(encoder, "preprocessing", None), data.preprocessing
    if trained and own and (found := trained.differences(own)):
        listed = "; ".join(found)
        raise ValueError(
            f"encoder must be trained on images like those of the data. Received: {listed}"
        )
    for name in ("train", split):
        if not data.count(name):
            raise ValueError(f"data must have images in its {name} split. Received: none")
