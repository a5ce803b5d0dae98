"""The part that all self-supervised models have in common: an encoder and an online probe."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.labels import UNLABELLED
from deeplens_tf.models.collapse import feature_std
from deeplens_tf.models.replicas import ONE_DEVICE, Replicas


def build_on_features(layer: keras.layers.Layer, encoder: keras.Model) -> None:
    """Create the variables of a layer on the encoder's features, unless it has them already."""
    if not layer.built:
        layer.build(encoder.compute_output_shape((None, *encoder.image_shape)))


def require_keys(batch: dict[str, KerasTensor], *keys: str) -> None:
    """Refuse a batch that lacks a part.

    Raises:
        ValueError: a key is missing.
    """
    missing = [key for key in keys if key not in batch]
    if missing:
        raise ValueError(f"a batch must contain {', '.join(missing)}. Received: {list(batch)}")


class SelfSupervisedModel(keras.Model):
    """Base of the pretraining models: adds an online linear probe and a measure of collapse.

    A batch is a dict with `view_1`, `view_2` and `image` (batch, height, width, bands) and,
    where known, `label` (batch,), -1 for none. The probe is trained on the features of the
    un-augmented image through `stop_gradient`: it measures how well the features predict the
    label, and the labels never influence the encoder. A subclass defines `call`, which returns a
    dict with `features`, a tuple of the feature batches used by the pretext, and `pretext_loss`.
    The metric `feature_std` falls to 0 when those features collapse.

    Args:
        encoder: built model, image -> features.
        probe: layer of class logits on the features, or None for unlabelled data.
    """

    patch_count = 0
    """Number of patches of which a batch must contain an order, `patch_order`; 0 for none."""

    replicas: Replicas = ONE_DEVICE
    """The copies of this model that share a batch."""

    def __init__(
        self, encoder: keras.Model, probe: keras.layers.Layer | None = None, **kwargs: Any
    ) -> None:
        if not hasattr(encoder, "image_shape"):
            raise ValueError(
                f"encoder must be a model that build_encoder returns. Received: {encoder!r}"
            )
        super().__init__(**kwargs)
        self.encoder = encoder
        self.probe = probe
        self.pretext_loss_tracker = keras.metrics.Mean(name="pretext_loss")
        self.feature_std_tracker = keras.metrics.Mean(name="feature_std")
        if probe is not None:
            self.probe_loss_tracker = keras.metrics.Mean(name="probe_loss")
            self.probe_accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(
                name="probe_accuracy"
            )

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the loss of the method, a scalar, and update its metrics.

        On several replicas, return a number whose mean over them is the loss of the whole batch.

        Args:
            batch: see the class.
            outputs: what `call` returned for it.
        """
        raise TypeError(f"{type(self).__name__} must define pretext_loss")

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> KerasTensor:
        """Return the loss of the pretext plus that of the probe, a scalar in float32.

        On several replicas, return this replica's part: the loss of the batch is their sum.
        """
        loss = self.pretext_loss(x, y_pred)
        self.pretext_loss_tracker.update_state(loss)
        features = [self.replicas.gather(ops.stop_gradient(part)) for part in y_pred["features"]]
        self.feature_std_tracker.update_state(feature_std(features))
        if self.probe is not None:
            require_keys(x, "image", "label")
            loss = loss + self._probe_loss(self.probe, x["image"], x["label"])
        return loss / self.replicas.count

    def _probe_loss(
        self, probe: keras.layers.Layer, images: KerasTensor, labels: KerasTensor
    ) -> KerasTensor:
        # Inference mode, in which a user of the encoder computes features.
        logits = probe(ops.stop_gradient(self.encoder(images, training=False)))
        known = ops.cast(ops.not_equal(labels, UNLABELLED), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(labels, 0), logits, from_logits=True
        )
        # Replicas may have different numbers of labels, but each label has the same weight.
        count = ops.maximum(self.replicas.mean(ops.sum(known)), 1 / self.replicas.count)
        loss = ops.sum(losses * known) / count
        self.probe_loss_tracker.update_state(loss)
        self.probe_accuracy_tracker.update_state(labels, logits, sample_weight=known)
        return loss

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the probe; the encoder is built already."""
        if self.probe is not None:
            build_on_features(self.probe, self.encoder)
        self.built = True

    def get_build_config(self) -> dict[str, Any]:
        """Return an empty configuration: all shapes follow from the encoder's.

        Otherwise Keras would store the shapes of the batch, a dict, and restore only part of the
        weights when it loads the file.
        """
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
            "probe": serialise(self.probe),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.Model:
        """Rebuild the model from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        nested = {
            key: restore(value) if isinstance(value, dict) and "class_name" in value else value
            for key, value in config.items()
        }
        return cls(**nested)
