"""Contrastive learning: two views of an image are to find each other in the batch."""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.losses import cosine_similarities, partner_cross_entropy
from deeplens_tf.models.self_supervised import SelfSupervisedModel, build_on_features


@keras.saving.register_keras_serializable(package="deeplens_tf")
class ContrastiveModel(SelfSupervisedModel):
    """Encoder and projector trained by symmetric InfoNCE, with an optional linear probe.

    Args:
        encoder: built model, image -> features.
        projector: features -> projection, on which the loss is taken.
        temperature: divisor of the cosine similarities.
        probe: layer of class logits on the features, or None for unlabelled data.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> model = ContrastiveModel(encoder, projection_head(256), temperature=0.1)
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        temperature: float = 0.1,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, probe, **kwargs)
        self.projector = projector
        self.temperature = temperature
        self.accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(name="contrastive_accuracy")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Allocate the projector and the probe."""
        super().build(input_shape)
        build_on_features(self.projector, self.encoder)

    def call(
        self, batch: dict[str, KerasTensor], training: bool | None = None
    ) -> dict[str, tuple[KerasTensor, KerasTensor]]:
        """Return the `features` and the `projections` of both views, each (batch, dim)."""
        features = self.encode_views(batch, training)
        projections = tuple(self.projector(part, training=training) for part in features)
        return {"features": features, "projections": projections}

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the mean InfoNCE and count, in both directions, the partners found."""
        own = outputs["projections"]
        everyone = [self.replicas.gather(part) for part in own]
        partners = self.replicas.first_row(own[0]) + ops.arange(ops.shape(own[0])[0])
        losses = []
        for part, candidates in zip(own, reversed(everyone), strict=True):
            similarities = cosine_similarities(part, candidates, self.temperature)
            self.accuracy_tracker.update_state(partners, similarities)
            losses.append(ops.mean(partner_cross_entropy(partners, similarities)))
        return (losses[0] + losses[1]) / 2

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        return {
            **super().get_config(),
            "projector": keras.saving.serialize_keras_object(self.projector),
            "temperature": self.temperature,
        }
