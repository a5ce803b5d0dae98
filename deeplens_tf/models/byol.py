"""BYOL: predict what a slower copy of oneself makes of the other view.

Grill et al. 2020, arXiv:2006.07733.
"""

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.losses import byol_loss
from deeplens_tf.models.self_supervised import VIEWS, SelfSupervisedModel, build_on_features


@keras.saving.register_keras_serializable(package="deeplens_tf")
class BYOLModel(SelfSupervisedModel):
    """Online network (encoder, projector, predictor) and the target network it follows.

    The target is an encoder and a projector with weights of their own, which start as the
    online ones' and follow them as a moving average after each step of the optimiser. As its
    authors do, only parameters are averaged: the target's BatchNorms normalise by the batch in
    training and keep moving statistics of what they see themselves.

    Args:
        encoder: built model, image -> features.
        projector: features -> projection.
        predictor: projection -> prediction of the target's projection, as long as it.
        beta: share of the target that one update keeps, at the start.
        total_steps: updates after which that share has risen to 1 by a cosine; None keeps it
            constant.
        probe: layer of class logits on the features, or None for unlabelled data.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> projector = batch_norm_mlp((64, 32), "projector")
        >>> model = BYOLModel(encoder, projector, batch_norm_mlp((64, 32), "predictor"))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        predictor: keras.layers.Layer,
        beta: float = 0.99,
        total_steps: int | None = None,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, probe, **kwargs)
        self.projector = projector
        self.predictor = predictor
        self.beta = beta
        self.total_steps = total_steps
        self.target_encoder = _copy(encoder)
        self.target_projector = _copy(projector)
        self.updates = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="updates"
        )
        self.build()
        # A model that is read from a file gets the file's target after this.
        self.copy_online_to_target()

    def build(self, input_shape: Any = None) -> None:
        """Allocate the heads, the probe and the target, which no gradient may move."""
        super().build(input_shape)
        build_on_features(self.projector, self.encoder)
        if not self.predictor.built:
            self.predictor.build(self.projector.output_shape)
        if not self.target_encoder.built:
            self.target_encoder.build()
        build_on_features(self.target_projector, self.target_encoder)
        # Not `layer.trainable`, which would put its BatchNorms into inference mode.
        for variable in self.target_encoder.variables + self.target_projector.variables:
            variable.trainable = False

    def call(
        self, batch: dict[str, KerasTensor], training: bool | None = None
    ) -> dict[str, tuple[KerasTensor, KerasTensor]]:
        """Return `features`, `predictions` and `targets` of both views, each (batch, dim)."""
        features = self.encode_views(batch, training)
        projections = tuple(self.projector(part, training=training) for part in features)
        predictions = tuple(self.predictor(part, training=training) for part in projections)
        targets = tuple(self._target(batch[view], training) for view in VIEWS)
        return {"features": features, "predictions": predictions, "targets": targets}

    def _target(self, images: KerasTensor, training: bool | None) -> KerasTensor:
        features = self.target_encoder(images, training=training)
        return ops.stop_gradient(self.target_projector(features, training=training))

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the loss averaged over both crossings; the paper adds them."""
        (p1, p2), (z1, z2) = outputs["predictions"], outputs["targets"]
        return (byol_loss(p1, z2) + byol_loss(p2, z1)) / 2

    def train_step(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Take the optimiser's step, then let the target follow once."""
        logs = super().train_step(*args, **kwargs)
        self.update_target()
        return logs

    def update_target(self) -> None:
        """Move each target parameter toward its online one: beta x target + (1 - beta) x online."""
        moved = self.moved_share()
        for online, target in self._parameters():
            target.assign(target + moved * (online - target))
        self.updates.assign(self.updates + 1)

    def moved_share(self) -> KerasTensor | float:
        """Return 1 - beta of the next update, from (1 - beta) at the start to 0 at the end.

        beta_k = 1 - (1 - beta) (cos(pi k / K) + 1) / 2 (section 3.3). The half angle's square
        is the same, and does not round to 0 before the last step.
        """
        if self.total_steps is None:
            return 1 - self.beta
        done = ops.minimum(ops.cast(self.updates, "float32") / self.total_steps, 1.0)
        return (1 - self.beta) * ops.square(ops.cos(math.pi / 2 * done))

    def copy_online_to_target(self) -> None:
        """Give the target the online network's weights, moving statistics included."""
        for online, target in self._weights():
            target.assign(online)

    def _parameters(self) -> Iterator[tuple[keras.Variable, keras.Variable]]:
        return (pair for pair in self._weights() if pair[0].trainable)

    def _weights(self) -> Iterator[tuple[keras.Variable, keras.Variable]]:
        yield from zip(self.encoder.weights, self.target_encoder.weights, strict=True)
        yield from zip(self.projector.weights, self.target_projector.weights, strict=True)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        serialise = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "projector": serialise(self.projector),
            "predictor": serialise(self.predictor),
            "beta": self.beta,
            "total_steps": self.total_steps,
        }


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer of the same configuration, with weights and a name of its own."""
    return type(layer).from_config({**layer.get_config(), "name": f"target_{layer.name}"})
