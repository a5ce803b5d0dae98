"""What every self-supervised model shares: an encoder, and a probe that watches it."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.collapse import feature_std
from deeplens_tf.models.replicas import ONE_DEVICE, Replicas

UNLABELLED = -1
VIEWS = ("view_1", "view_2")


def build_on_features(layer: keras.layers.Layer, encoder: keras.Model) -> None:
    """Allocate `layer` for the encoder's features, unless a loaded file already did."""
    if not layer.built:
        layer.build(encoder.compute_output_shape((None, *encoder.image_shape)))


class SelfSupervisedModel(keras.Model):
    """Base of the pretraining models: adds the online linear probe and watches for collapse.

    A batch is a dict with `view_1`, `view_2` and `image` (batch, height, width, bands) and,
    where known, `label` (batch,), -1 for none. The probe is trained on the features of the
    un-augmented image through `stop_gradient`: it tells how much of the label the features
    hold, and no label ever reaches the encoder. A subclass gives `call`, which returns a dict
    with `features`, a tuple of the feature batches that the pretext worked on, and
    `pretext_loss`. The metric `feature_std` falls to 0 when those features collapse.

    Args:
        encoder: built model, image -> features.
        probe: layer of class logits on the features, or None for unlabelled data.
    """

    patch_count = 0
    """Patches of which a batch must say an order, `patch_order`; 0 where none is needed."""

    replicas: Replicas = ONE_DEVICE
    """The copies of this model that share a batch, on which a loss may depend."""

    def __init__(
        self, encoder: keras.Model, probe: keras.layers.Layer | None = None, **kwargs: Any
    ) -> None:
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

    def encode_views(
        self, batch: dict[str, KerasTensor], training: bool | None = None
    ) -> tuple[KerasTensor, KerasTensor]:
        """Return the features of view 1 and of view 2, each (batch, features)."""
        # One view at a time, so that a BatchNorm's statistics are those of one view.
        return tuple(self.encoder(batch[view], training=training) for view in VIEWS)

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the method's own loss, a scalar, and update its metrics.

        On several replicas, a number whose mean over them is the loss of the whole batch.

        Args:
            batch: see the class.
            outputs: what `call` returned for it.
        """
        raise TypeError(f"{type(self).__name__} must define pretext_loss")

    def compute_loss(
        self,
        x: dict[str, KerasTensor] | None = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> KerasTensor:
        """Return the pretext's loss plus the probe's, a scalar in float32.

        On several replicas, this one's part: the loss of the whole batch is the sum of theirs.
        """
        loss = self.pretext_loss(x, y_pred)
        self.pretext_loss_tracker.update_state(loss)
        features = [self.replicas.gather(ops.stop_gradient(part)) for part in y_pred["features"]]
        self.feature_std_tracker.update_state(feature_std(features))
        if self.probe is not None:
            loss = loss + self._probe_loss(x["image"], x["label"])
        return loss / self.replicas.count

    def _probe_loss(self, images: KerasTensor, labels: KerasTensor) -> KerasTensor:
        # Inference mode: the probe sees what a user of the encoder will see.
        logits = self.probe(ops.stop_gradient(self.encoder(images, training=False)))
        known = ops.cast(ops.not_equal(labels, UNLABELLED), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(labels, 0), logits, from_logits=True
        )
        # Some replicas may have more labels than others, but a label counts the same on all.
        share = ops.maximum(self.replicas.mean(ops.sum(known)), 1 / self.replicas.count)
        loss = ops.sum(losses * known) / share
        self.probe_loss_tracker.update_state(loss)
        self.probe_accuracy_tracker.update_state(labels, logits, sample_weight=known)
        return loss

    def build(self, input_shape: Any = None) -> None:
        """Allocate what stands on the features; the encoder comes built."""
        if self.probe is not None:
            build_on_features(self.probe, self.encoder)
        self.built = True

    def get_build_config(self) -> dict[str, Any]:
        """Return an empty recipe: all shapes follow from the encoder's.

        Without it Keras would record the batch's dict of shapes, and restore only part of the
        weights when it reloads the file.
        """
        return {}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Allocate every variable, so that the file's values find their place."""
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
