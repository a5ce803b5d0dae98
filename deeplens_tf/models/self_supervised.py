"""The part that all self-supervised models have in common: an encoder and an online probe."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.labels import UNLABELLED
from deeplens_tf.models.collapse import feature_std
from deeplens_tf.models.encoders import build_encoder_variables, build_on_features, feature_shape
from deeplens_tf.models.own_defaults import own_defaults, with_own_defaults
from deeplens_tf.models.probe_optimizer import separate_probe
from deeplens_tf.models.replicas import ONE_DEVICE, Replicas, require_replicas

UNUSED = ("y", "sample_weight", "class_weight")  # of Keras's `fit` and the like
PROBED = ("view_1", "image")  # images of a batch on which the probe can be trained
# Orders of the patches of each view, of which a model with `keep_tokens` below 1 keeps the first.
ORDERS = {"view_1": "patch_order_1", "view_2": "patch_order_2"}


def require_keys(batch: Mapping[str, KerasTensor], *keys: str) -> None:
    """Refuse a batch that is not a dict, or that lacks a part.

    Raises:
        ValueError: not a dict, or a key is missing.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"a batch must be a dict with {', '.join(keys)}; Keras takes a tuple for images and "
            f"targets. Received: {type(batch).__name__}"
        )
    missing = [key for key in keys if key not in batch]
    if missing:
        raise ValueError(f"a batch must contain {', '.join(missing)}. Received: {list(batch)}")


def _on_views_only(method: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse arguments of a method of Keras that a batch of views has no use for.

    Keras would drop weights without targets, and `compute_loss` never see them.
    """

    @functools.wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(method).bind(*args, **kwargs).arguments
        _require_no_targets(**{name: given.get(name) for name in UNUSED})
        return method(*args, **kwargs)

    return checked


class SelfSupervisedModel(keras.Model):
    """Base of the pretraining models: adds an online linear probe and a measure of collapse.

    A batch is a dict with `view_1`, `view_2` and `image` (batch, height, width, bands) and,
    where known, `label` (batch,), -1 for none. The probe is trained on features through
    `stop_gradient`: it measures how well they predict the label, and the labels never influence
    the encoder. See `compile` for the choice of the images. A subclass defines `call`, which
    returns a dict with `features`, a tuple of the feature batches used by the pretext, that of
    `view_1` first, and `pretext_loss`.
    The metric `feature_std` falls to 0 when those features collapse.

    In the scope of a strategy of several replicas, call `deeplens_tf.distribution.connect_replicas`
    on the compiled model before the first step.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        probe: layer of class logits on the features, or None for unlabelled data.

    Raises:
        ValueError: an encoder that takes no images of a known size, or returns no vectors.
    """

    patch_count = 0
    """Number of patches of which a batch must contain orders; 0 for none."""

    keep_tokens = 1.0
    """Share of the patches that each view keeps; below 1 a batch has an order for each view."""

    smallest_batch = 1
    """Number of images that a batch of all replicas must contain at least."""

    probe_on = PROBED[0]
    """Images of a training batch whose features train the probe, see `compile`."""

    replicas: Replicas = ONE_DEVICE
    """The copies of this model that share a batch."""

    @with_own_defaults
    def __init__(
        self, encoder: keras.Model, probe: keras.layers.Layer | None = None, **kwargs: Any
    ) -> None:
        feature_shape(encoder)
        build_encoder_variables(encoder)
        if probe is not None and not isinstance(probe, keras.layers.Layer):
            raise ValueError(f"probe must be a Keras layer or None. Received: probe={probe!r}")
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

    def plateau_loss(self, images: int) -> float | None:
        """Return the loss of a method that tells no image of a batch from another, or None.

        A training may begin on such a plateau and stay there; a method whose loss has no such
        value, as by default, returns None.

        Args:
            images: number of images in a batch of all replicas.
        """
        return None

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> KerasTensor:
        """Return the loss of the pretext, of the regularisers and of the probe: a float32 scalar.

        On several replicas, return this replica's part: the loss of the batch is their sum.

        Raises:
            ValueError: targets or weights beside the batch, a batch that lacks a part or is known
                to be smaller than `smallest_batch`, orders of the patches that the model does not
                use, or a model in a strategy's scope whose replicas are not connected.
        """
        _require_no_targets(y=y, sample_weight=sample_weight)
        if self.keep_tokens == 1:
            _require_no_orders(x)
        require_replicas(self)
        if training:  # the last batch of a validation may be smaller
            self._require_images(y_pred["features"][0])
        pretext = self.pretext_loss(x, y_pred)
        self.track(self.pretext_loss_tracker, pretext, y_pred)
        features = [self.replicas.gather(ops.stop_gradient(part)) for part in y_pred["features"]]
        self.track(self.feature_std_tracker, feature_std(features), y_pred)
        loss = sum(self.regularisation_losses(), start=pretext)
        if self.probe is not None:
            require_keys(x, "image", "label")
            features = self._probe_features(x["image"], y_pred, training)
            loss = loss + self._probe_loss(self.probe, features, x["label"], training)
        return loss / self.replicas.count

    def _require_images(self, features: KerasTensor) -> None:
        """Refuse a batch that is too small; its size may be unknown until the step is taken."""
        rows = features.shape[0]
        if rows is not None and rows * self.replicas.count < self.smallest_batch:
            raise ValueError(
                f"a batch must contain at least {self.smallest_batch} images, which "
                f"{type(self).__name__} compares. Received: {rows * self.replicas.count}"
            )

    def track(
        self, tracker: keras.metrics.Mean, value: KerasTensor, outputs: dict[str, Any]
    ) -> None:
        """Add the value of a batch to a mean over the epoch, weighted by the size of the batch."""
        tracker.update_state(value, sample_weight=ops.shape(outputs["features"][0])[0])

    def regularisation_losses(self) -> list[KerasTensor]:
        """Return the losses that the layers' regularisers add, of weights and of activities."""
        return self.losses

    def _probe_features(
        self, images: KerasTensor, outputs: dict[str, Any], training: bool
    ) -> KerasTensor:
        """Return what the probe sees: of view 1 it is computed already, in a step of training."""
        if training and self.probe_on == "view_1":
            return ops.stop_gradient(outputs["features"][0])
        # Inference mode, in which a user of the encoder computes features.
        return ops.stop_gradient(self.encoder(images, training=False))

    def _probe_loss(
        self, probe: keras.layers.Layer, features: KerasTensor, labels: KerasTensor, training: bool
    ) -> KerasTensor:
        if len(labels.shape) != 1:
            raise ValueError(f"label must have the shape (batch,). Received: shape {labels.shape}")
        logits = probe(features, training=training)
        known = ops.cast(ops.not_equal(labels, UNLABELLED), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(labels, 0), logits, from_logits=True
        )
        # Replicas may have different numbers of labels, but each label has the same weight.
        count = self.replicas.mean(ops.sum(known))
        loss = ops.sum(losses * known) / ops.maximum(count, 1 / self.replicas.count)
        self.probe_loss_tracker.update_state(loss, sample_weight=count)
        self.probe_accuracy_tracker.update_state(labels, logits, sample_weight=known)
        return loss

    @with_own_defaults
    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        probe_optimizer: keras.optimizers.Optimizer | str | None = None,
        probe_on: str = PROBED[0],
        **options: Any,
    ) -> None:
        """Configure the training, as Keras's `compile` does.

        Args:
            optimizer: of all variables but the probe's.
            loss: refused, as are `loss_weights`, `metrics` and `weighted_metrics`: the method
                defines them.
            loss_weights: see `loss`.
            metrics: see `loss`.
            weighted_metrics: see `loss`.
            probe_optimizer: of the probe's variables; None for a copy of `optimizer`. The probe's
                gradient is always clipped and applied apart from the others, so that labels never
                influence the encoder.
            probe_on: what the probe is trained on: "view_1", whose features the step computes
                anyway, in training mode and of the patches that the method shows, or "image", the
                un-augmented image in inference mode, which takes another pass through the encoder.
                A validation scores it on the un-augmented images in both cases.
            **options: Keras's others, such as `jit_compile` and `steps_per_execution`.

        Raises:
            ValueError: one of the refused arguments, an optimiser for a probe that is not there, or
                unknown images for the probe.
        """
        if probe_on not in PROBED:
            raise ValueError(
                f"probe_on must be {' or '.join(PROBED)}. Received: probe_on={probe_on!r}"
            )
        _refuse(
            loss=loss, loss_weights=loss_weights, metrics=metrics, weighted_metrics=weighted_metrics
        )
        if self.probe is not None:
            optimizer = separate_probe(optimizer, self.probe, probe_optimizer)
        elif probe_optimizer is not None:
            raise ValueError(
                f"probe_optimizer must be None for a model without a probe. "
                f"Received: probe_optimizer={probe_optimizer!r}"
            )
        self.probe_on = probe_on
        self.replicas = ONE_DEVICE  # they are connected through the optimiser, which is new
        super().compile(optimizer=optimizer, **options)

    fit = _on_views_only(keras.Model.fit)
    evaluate = _on_views_only(keras.Model.evaluate)
    train_on_batch = _on_views_only(keras.Model.train_on_batch)
    test_on_batch = _on_views_only(keras.Model.test_on_batch)

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile`; empty before it."""
        config = super().get_compile_config()
        return {**config, "probe_on": self.probe_on} if config else {}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a model that is loaded from a file as the saved one was.

        Files of earlier versions do not name the probe's images: it was trained on the image.
        """
        self.compile(**{"probe_on": "image", **keras.saving.deserialize_keras_object(config)})
        self.optimizer.build(self.trainable_variables)

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the probe; the encoder is built already."""
        with own_defaults():
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


def _refuse(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value:
            raise ValueError(
                f"{name} must be left out: a self-supervised model has its own loss and metrics, "
                f"which pretext_loss defines. Received: {name}={value!r}"
            )


def _require_no_orders(batch: Any) -> None:
    found = [key for key in ORDERS.values() if isinstance(batch, Mapping) and key in batch]
    if found:
        raise ValueError(
            "keep_tokens must be below 1 for a batch of masked views, which the model would see "
            f"whole. Received: keep_tokens=1.0 and a batch with {', '.join(found)}"
        )


def _require_no_targets(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"{name} must be left out: a batch is one dict, with labels under 'label', and "
                f"its images have equal weights. Received: {name} beside the batch"
            )
