"""The images that a report's page shows: some of each class, and the worst mistakes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from deeplens_tf.errors import DataError
from deeplens_tf.evaluation.html_page import Picture
from deeplens_tf.evaluation.scored_images import ScoredImages
from deeplens_tf.figures.image_grids import image_png

MAX_SHOWN_IMAGES = 24
MAX_PER_CLASS = 4
SPREAD = 8  # samples of a regression

Rows = NDArray[np.int64]
Captions = Callable[[pd.Series], tuple[str, list[str]]]  # the words for a picture, and its caption


@dataclass(frozen=True)
class ShownImages:
    """Pictures of scored images.

    Attributes:
        samples: some of each class, or of the range of the true values.
        mistakes: the worst ones first.
        n_mistakes: how many there are, shown or not; None for a regression.
        error: why the images could not be read again; "" if they were.
    """

    samples: list[Picture] = field(default_factory=list)
    mistakes: list[Picture] = field(default_factory=list)
    n_mistakes: int | None = None
    error: str = ""


def images_to_show(predictions: pd.DataFrame, scored: ScoredImages, head: str) -> ShownImages:
    """Read and draw the images to show.

    Args:
        predictions: of the scored images, as `classification_predictions` or
            `regression_predictions` returns.
        scored: the same images.
        head: "classification" or "regression".
    """
    is_class = head == "classification"
    choose = (sample_of_each, wrong_classes) if is_class else (spread_of_values, largest_errors)
    samples, mistakes = (chosen(predictions) for chosen in choose)
    count = len(mistakes) if is_class else None
    mistakes = mistakes[:MAX_SHOWN_IMAGES]
    try:
        images = scored.some(np.concatenate([samples, mistakes]))
    except (DataError, OSError, tf.errors.OpError) as error:
        return ShownImages(n_mistakes=count, error=str(error))
    captions = _class_lines if is_class else _value_lines
    drawn = partial(_pictures, predictions, images, captions)
    return ShownImages(drawn(samples), drawn(mistakes), count)


def sample_of_each(predictions: pd.DataFrame) -> Rows:
    """Return the positions of the first images of each class, equally many of each."""
    labels = predictions["label"].to_numpy()
    classes = sorted(set(labels))[:MAX_SHOWN_IMAGES]
    many = min(MAX_PER_CLASS, MAX_SHOWN_IMAGES // len(classes))
    return np.concatenate([np.flatnonzero(labels == name)[:many] for name in classes])


def wrong_classes(predictions: pd.DataFrame) -> Rows:
    """Return the positions of the wrongly classified images, the most certain mistake first."""
    wrong = np.flatnonzero(predictions["predicted"] != predictions["label"])
    return wrong[np.argsort(-_certainty(predictions)[wrong], kind="stable")]


def spread_of_values(predictions: pd.DataFrame) -> Rows:
    """Return the positions of images from the smallest to the largest true value."""
    order = np.argsort(predictions.iloc[:, 1].to_numpy(), kind="stable")
    places = np.linspace(0, len(order) - 1, min(SPREAD, len(order)))
    return order[places.round().astype(int)]


def largest_errors(predictions: pd.DataFrame) -> Rows:
    """Return the positions of all images, the largest error first."""
    true, predicted = (predictions.iloc[:, column].to_numpy() for column in (1, 2))
    return np.argsort(-np.abs(predicted - true), kind="stable")


def _certainty(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probability of the predicted class."""
    names = [f"p_{name}" for name in dict.fromkeys(predictions["predicted"])]
    return predictions[names].to_numpy().max(axis=1)


def _pictures(
    predictions: pd.DataFrame, images: Mapping[int, NDArray], captions: Captions, rows: Rows
) -> list[Picture]:
    found = []
    for row in rows.tolist():
        alt, lines = captions(predictions.iloc[row])
        found.append(Picture(alt, image_png(images[row]), lines))
    return found


def _class_lines(row: pd.Series) -> tuple[str, list[str]]:
    label, predicted = row["label"], row["predicted"]
    shares = {name: f"{row[f'p_{name}']:.3f}" for name in (predicted, label)}
    verdict = f"predicted {predicted}, probability {shares[predicted]}"
    lines = [label if predicted == label else f"{label}, taken for {predicted}"]
    lines += [*(f"p({name}) = {share}" for name, share in shares.items()), str(row["file"])]
    return f"Image {row['file']} of class {label}, {verdict}", lines


def _value_lines(row: pd.Series) -> tuple[str, list[str]]:
    true, predicted = row.iloc[1], row.iloc[2]
    lines = [f"true {true:.3f}", f"predicted {predicted:.3f}", str(row["file"])]
    return f"Image {row['file']}: {', '.join(lines[:2])}", lines
