"""A network as `explain` uses it: a fine-tuned model, an encoder or the untrained control."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError
from deeplens_tf.inference.frozen_encoder import untrained_network
from deeplens_tf.inference.model_input import preprocessing_of_run
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.models.encoders import image_shape_of
from deeplens_tf.models.rollout import transformer_of
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.saving.keras_files import load_network

ROLLOUT, OCCLUSION = WAYS_TO_EXPLAIN = ("rollout", "occlusion")
OF_FEATURES = "1 - cosine between the features with and without the cover"


@dataclass(frozen=True)
class ExplainedNetwork:
    """A network whose maps are asked for.

    Attributes:
        file: that it was read from.
        network: images in [0, 1] -> features or predictions.
        preprocessing: of the images of the training.
    """

    file: Path
    network: keras.Model
    preprocessing: Preprocessing

    def measure(self, method: str) -> str:
        """Return what a map of it shows, with the unit."""
        model = self.network
        if method == ROLLOUT:
            return "share of the attention of the features, by roll-out; the sum is 1"
        if not isinstance(model, DownstreamModel):
            return OF_FEATURES
        if model.class_names:
            return "fall of the probability of the predicted class under the cover"
        unit = f" in {model.target.error_unit}" if model.target.error_unit else ""
        return f"shift of the predicted {model.target.label} under the cover{unit}"

    def predictions(self, images: NDArray[np.float32]) -> dict[str, NDArray]:
        """Return what a fine-tuned model says of images, by name; nothing for an encoder."""
        model = self.network
        if not isinstance(model, DownstreamModel):
            return {}
        outputs = np.asarray(model(images, training=False), np.float32)
        if not model.class_names:
            return {"predicted": outputs[:, 0]}
        names = np.asarray(model.class_names)[outputs.argmax(axis=1)]
        return {"predicted": names, "probability": outputs.max(axis=1)}


def open_explained(file: Path, method: str, control: bool = False) -> ExplainedNetwork:
    """Load a network to explain.

    Args:
        file: of a fine-tuned model or an encoder.
        method: "rollout" or "occlusion".
        control: whether to take the encoder with the initial weights of its run.

    Raises:
        RequestError: no such network; roll-out of one without known attention; a control without
            predictions for the occlusion of a fine-tuned model, or whose run is unknown.
    """
    network = load_network(file)
    shape = image_shape_of(network)
    encoder = getattr(network, "encoder", network)
    how = encoder.preprocessing or preprocessing_of_run(file, shape)
    if control and method == OCCLUSION and encoder is not network:
        raise RequestError(
            f"{file}: the untrained control of a fine-tuned model predicts nothing, so --control "
            "needs --method rollout, or the encoder's run"
        )
    network = untrained_network(file, shape) if control else network
    if method == ROLLOUT:
        try:
            transformer_of(network if control else encoder)
        except ValueError as error:
            raise RequestError(f"{file}: {error}") from error
    return ExplainedNetwork(file, network, how)
