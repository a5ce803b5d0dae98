"""An encoder as `embed` and `search` use it: its own features, or those of a layer."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError
from deeplens_tf.files.products import encoder_file
from deeplens_tf.inference.model_input import preprocessing_of_run
from deeplens_tf.models.encoders import image_shape_of
from deeplens_tf.models.layer_features import layer_features
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.probes.frozen_features import untrained_encoder
from deeplens_tf.probes.outputs import NotFiniteOutputs, finite_outputs
from deeplens_tf.runs.run_folder import run_of
from deeplens_tf.saving.keras_files import load_encoder


@dataclass(frozen=True)
class FrozenEncoder:
    """A network from images to features.

    Attributes:
        file: that the encoder was read from.
        network: images in [0, 1] -> features.
        preprocessing: of the images of the training.
    """

    file: Path
    network: keras.Model
    preprocessing: Preprocessing

    def features(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features of a batch of prepared images, shape (images, dim).

        Raises:
            RequestError: a feature is not finite.
        """
        try:
            return finite_outputs(self.network.predict_on_batch(images))
        except NotFiniteOutputs as error:
            raise RequestError(f"{self.file}: {error}: its training diverged") from error


def open_encoder(run: str | Path, layer: str | None = None, control: bool = False) -> FrozenEncoder:
    """Load an encoder.

    Args:
        run: a run folder, a `.keras` file or a name, see `load_encoder`.
        layer: whose features are asked for, see `layer_features`; None for the encoder's own.
        control: whether to take the same network with the initial weights of its run.

    Raises:
        RequestError: no such encoder or layer, or the preprocessing or the initial weights are
            unknown because the file is in no run's folder.
    """
    file = encoder_file(run)
    encoder = load_encoder(file)
    shape = image_shape_of(encoder)
    how = encoder.preprocessing or preprocessing_of_run(file, shape)
    network = untrained_network(file, shape) if control else encoder
    if layer is None:
        return FrozenEncoder(file, network, how)
    try:
        return FrozenEncoder(file, layer_features(network, layer), how)
    except ValueError as error:
        raise RequestError(f"{file}: {error}") from error


def untrained_network(file: Path, image_shape: tuple[int, int, int]) -> keras.Model:
    """Return the control of a file's encoder: the same with the initial weights of its run.

    Raises:
        RequestError: the file is in no run's folder.
    """
    run = run_of(file)
    if run is None:
        raise RequestError(
            f"{file}: the control has the initial weights of the run, and this file is in no run's "
            "folder: give the folder of the run"
        )
    return untrained_encoder(run.load_config(), image_shape)
