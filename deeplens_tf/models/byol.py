"""BYOL: predict the projection of the other view by a moving average of the network itself.

Grill et al. 2020, arXiv:2006.07733.
"""

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.losses import byol_loss
from deeplens_tf.models.encoders import (
    build_encoder_variables,
    build_on_features,
    copy_of,
    require_same_weights,
)
from deeplens_tf.models.heads import batch_norm_mlp
from deeplens_tf.models.joint_embedding import VIEWS, JointEmbeddingModel
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.registered_method import register_method

Pairs = Iterator[tuple[keras.Variable, keras.Variable]]


@keras.saving.register_keras_serializable(package="deeplens_tf")
class BYOLModel(JointEmbeddingModel):
    """Online network (encoder, projector, predictor) and target network (encoder, projector).

    The target starts as a copy of the online network and follows it as a moving average, once
    after each optimiser step. As in the authors' code only parameters are averaged: the target's
    BatchNorms normalise by the batch in training and keep their own moving statistics.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        projector: features -> projection.
        predictor: projection -> prediction of the target's projection, of the same length.
        momentum: fraction of the target that the first update keeps (beta in the paper), 0 to 1.
        total_steps: updates over which the momentum rises to 1 along a cosine; None keeps it
            constant.
        probe: layer of class logits on the features, or None for unlabelled data.
        **kwargs: `keep_tokens` of `JointEmbeddingModel`, for masked views, and Keras's own.

    Raises:
        ValueError: a momentum outside of 0 to 1, no steps, or a part that doesn't fit.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> projector = batch_norm_mlp((64, 32), "projector")
        >>> model = BYOLModel(encoder, projector, batch_norm_mlp((64, 32), "predictor"))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    has_predictor = True
    masks_views = True

    @with_own_defaults
    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        predictor: keras.layers.Layer,
        momentum: float = 0.99,
        total_steps: int | None = None,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be from 0 to 1. Received: momentum={momentum}")
        if total_steps is not None and total_steps < 1:
            raise ValueError(
                f"total_steps must be at least 1 or None. Received: total_steps={total_steps}"
            )
        super().__init__(encoder, projector, predictor, probe, **kwargs)
        self.momentum = momentum
        self.total_steps = total_steps
        self.target_encoder = copy_of(encoder, f"target_{encoder.name}")
        self.target_projector = copy_of(projector, f"target_{projector.name}")
        self.updates = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="updates"
        )
        self.build()
        # A model that is loaded from a file gets the file's target after this.
        self.copy_online_to_target()

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the heads, the probe and the target; freeze the target."""
        super().build(input_shape)
        build_encoder_variables(self.target_encoder)
        build_on_features(self.target_projector, self.target_encoder)
        require_same_weights(self.encoder, self.target_encoder)
        require_same_weights(self.projector, self.target_projector)
        # Not `layer.trainable`, which would put its BatchNorms into inference mode.
        for variable in self.target_encoder.variables + self.target_projector.variables:
            variable.trainable = False

    def call(
        self, batch: dict[str, KerasTensor], training: bool | None = None
    ) -> dict[str, tuple[KerasTensor, ...]]:
        """Return the online network's outputs and `targets`, the projections of the target."""
        outputs = super().call(batch, training)
        return outputs | {"targets": tuple(self._target(batch, view, training) for view in VIEWS)}

    def _target(
        self, batch: dict[str, KerasTensor], view: str, training: bool | None
    ) -> KerasTensor:
        features = self.encode(self.target_encoder, batch, view, training)
        return ops.stop_gradient(self.target_projector(features, training=training))

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the loss averaged over both directions; the paper adds them."""
        (p1, p2), (z1, z2) = outputs["predictions"], outputs["targets"]
        return (byol_loss(p1, z2) + byol_loss(p2, z1)) / 2

    def regularisation_losses(self) -> list[KerasTensor]:
        """Return the losses of the online network's regularisers; the target has no gradient."""
        parts = (self.encoder, self.projector, self.predictor, self.probe)
        return [loss for part in parts if part is not None for loss in part.losses]

    def train_step(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Take the optimiser's step, then update the target once."""
        logs = super().train_step(*args, **kwargs)
        self.update_target()
        return logs

    def update_target(self) -> None:
        """Move each target parameter: momentum x target + (1 - momentum) x online."""
        rate = self.target_update_rate()
        for online, target in self._pairs():
            if online.trainable:
                target.assign(target + rate * (online - target))
        self.updates.assign(self.updates + 1)

    def target_update_rate(self) -> KerasTensor | float:
        """Return 1 - momentum of the next update, which falls to 0 over `total_steps`.

        beta_k = 1 - (1 - beta) (cos(pi k / K) + 1) / 2 (section 3.3). The square of the cosine of
        half the angle is equal to it and does not round to 0 before the last step.
        """
        if self.total_steps is None:
            return 1 - self.momentum
        done = ops.minimum(ops.cast(self.updates, "float32") / self.total_steps, 1.0)
        return (1 - self.momentum) * ops.square(ops.cos(math.pi / 2 * done))

    def copy_online_to_target(self) -> None:
        """Give the target the online network's weights, including moving statistics."""
        for online, target in self._pairs():
            target.assign(online)

    def _pairs(self) -> Pairs:
        yield from zip(self.encoder.weights, self.target_encoder.weights, strict=True)
        yield from zip(self.projector.weights, self.target_projector.weights, strict=True)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        own = {"momentum": self.momentum, "total_steps": self.total_steps}
        return super().get_config() | own

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.Model:
        """Rebuild the model from `get_config`; earlier versions called the momentum beta."""
        if "beta" in config:
            config = {**config, "momentum": config["beta"]}
            del config["beta"]
        return super().from_config(config, custom_objects)


def byol(
    encoder: keras.Model,
    probe: keras.layers.Layer | None,
    total_steps: int,
    projection_width: int,
    hidden_width: int,
    beta: float,
    schedule: str,
    keep_tokens: float,
) -> BYOLModel:
    """Build the method as a configuration names it."""
    widths = (hidden_width, projection_width)
    projector, predictor = (batch_norm_mlp(widths, name) for name in ("projector", "predictor"))
    steps = total_steps if schedule == "cosine" else None
    heads = (projector, predictor)
    return BYOLModel(encoder, *heads, beta, steps, probe, keep_tokens=keep_tokens, name="byol")


register_method("byol", byol, BYOLModel)
