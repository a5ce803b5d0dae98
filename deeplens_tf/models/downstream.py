"""An encoder with a head: the model that fine-tuning trains and `model.keras` contains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import keras
import numpy as np
from keras import KerasTensor, ops
from numpy.typing import NDArray

from deeplens_tf.models.encoders import build_on_features, image_shape_of
from deeplens_tf.models.image_model import IMAGES_PER_STEP, ImageModel
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.preprocessing.preprocessing import Preprocessing, RawImages
from deeplens_tf.preprocessing.statistics import TrainingRange
from deeplens_tf.preprocessing.target import MASS, Target


@keras.saving.register_keras_serializable(package="deeplens_tf")
class DownstreamModel(ImageModel):
    """Image to class probabilities or to a mass: an encoder and a head on its features.

    Args:
        encoder: built model, image -> features.
        head: layer on the features.
        class_names: the classes in the order of the head's outputs; none for a regression.
        freeze: keep the encoder's weights and train the head only.
        class_weights: factors of the classes in the training's loss, positive; None for equal
            ones. Training under weights w makes the head's output proportional to w_c p_c (Bayes'
            rule), so at inference it is divided by them and normalised: probabilities are those
            of the training data's own class shares.
        training_range: spread of simple statistics of the training images, or the plain data that
            describe it; None if unknown.
        target: what a regression predicts, or the plain data that describe it.

    Input shape:
        (batch, height, width, bands), values in [0, 1].

    Output shape:
        (batch, classes), or that of `MassHead`.

    Raises:
        ValueError: class weights that are not one positive number for each class.
    """

    @with_own_defaults
    def __init__(
        self,
        encoder: keras.Model,
        head: keras.layers.Layer,
        class_names: tuple[str, ...] = (),
        freeze: bool = False,
        class_weights: Sequence[float] | None = None,
        training_range: TrainingRange | Mapping[str, Any] | None = None,
        target: Target | Mapping[str, Any] = MASS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.class_weights = _checked_weights(class_weights, class_names)
        if training_range is not None and not isinstance(training_range, TrainingRange):
            training_range = TrainingRange.from_dict(training_range)
        self.training_range: TrainingRange | None = training_range
        self.target = target if isinstance(target, Target) else Target.from_dict(target)
        self.encoder = encoder
        self.head = head
        self.class_names = tuple(class_names)
        self.freeze = freeze
        # Set twice: under TensorFlow, setting an attribute to its present value has no effect, and
        # the layers of an encoder that was saved frozen load as trainable.
        self.encoder.trainable = freeze
        self.encoder.trainable = not freeze
        self.build()

    _right_call = "predict_images() takes raw images"

    def train_head_only(self, head_only: bool) -> None:
        """Freeze the encoder for a part of the training, or train everything again.

        A frozen encoder works as at inference. A file of the model does not keep it, unlike
        `freeze`. To train the head first, then everything (Kumar et al. 2022, arXiv:2202.10054),
        build the optimiser of all variables before, and give `SelectiveAdamW` its `first_steps`.

        Args:
            head_only: whether the encoder is frozen.
        """
        self.encoder.trainable = not head_only
        if self.train_function is not None:  # traced with the variables of before
            self.make_train_function(force=True)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How raw images become those of the encoder, which keeps it; None if unknown."""
        return getattr(self.encoder, "preprocessing", None)

    def predict_images(
        self,
        images: RawImages,
        *,
        pixel_scale_arcsec: float | None = None,
        batch_size: int = IMAGES_PER_STEP,
    ) -> NDArray[np.float32]:
        """Return the outputs for raw images, which are prepared as in training.

        Args and errors are those of `ImageEncoder.features`.

        Returns:
            Shape (n, classes), or (n, outputs) of `MassHead`.
        """
        return self._predict_raw(images, pixel_scale_arcsec, batch_size)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the images that the encoder takes."""
        return image_shape_of(self.encoder)

    @property
    def head_name(self) -> Literal["classification", "regression"]:
        """What the head predicts: "classification" or "regression"."""
        return "classification" if self.class_names else "regression"

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the head; the encoder is built already."""
        build_on_features(self.head, self.encoder)
        self.built = True

    def call(self, images: KerasTensor, training: bool | None = None) -> KerasTensor:
        """Return the head's output for a batch of images."""
        # A frozen encoder works as at inference: no dropout, fixed statistics.
        features = self.encoder(images, training=training and self.encoder.trainable)
        outputs = self.head(features)
        if training or self.class_weights is None:
            return outputs
        unweighted = outputs / ops.convert_to_tensor(self.class_weights, outputs.dtype)
        return unweighted / ops.sum(unweighted, axis=-1, keepdims=True)

    # Keras creates its losses and metrics in these.
    compile = with_own_defaults(keras.Model.compile)
    compute_metrics = with_own_defaults(keras.Model.compute_metrics)

    @with_own_defaults
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> KerasTensor | None:
        """Return the compiled loss; in training, of examples that have their class's weight.

        With class weights, `y` must be one-hot, shape (batch, classes).
        """
        if training and self.class_weights is not None:
            own = ops.convert_to_tensor(self.class_weights, "float32")
            own = ops.sum(ops.cast(y, "float32") * own, axis=-1)  # (batch,)
            sample_weight = own if sample_weight is None else own * sample_weight
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def get_build_config(self) -> dict[str, Any]:
        """Return an empty configuration: all shapes follow from the encoder's."""
        return {}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Create every variable, so that all values in the file are restored."""
        self.build()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        serialise = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialise(self.encoder),
            "head": serialise(self.head),
            "class_names": list(self.class_names),
            "freeze": self.freeze,
            # Left out by default, so that a file is equal to those of earlier versions.
            **({"class_weights": list(self.class_weights)} if self.class_weights else {}),
            **({"training_range": self.training_range.to_dict()} if self.training_range else {}),
            **({} if self.target.is_mass else {"target": asdict(self.target)}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.Model:
        """Rebuild the model from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        nested = {key: restore(config[key]) for key in ("encoder", "head")}
        return cls(**{**config, **nested})


def _checked_weights(
    weights: Sequence[float] | None, class_names: Sequence[str]
) -> tuple[float, ...] | None:
    if weights is None:
        return None
    checked = tuple(float(weight) for weight in weights)
    fits = 0 < len(checked) == len(class_names)
    if not fits or not all(0 < weight < math.inf for weight in checked):
        raise ValueError(
            f"class_weights must be one positive number for each of the {len(class_names)} "
            f"classes. Received: class_weights={weights!r}"
        )
    return checked
