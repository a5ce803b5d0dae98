"""Contrastive learning: find each view's partner among the other images of the batch."""

import math
from typing import Any, Literal

import keras
from keras import KerasTensor, ops

from deeplens_tf.losses import (
    contrastive_loss,
    cosine_similarities,
    partner_columns,
    require_positive_temperature,
)
from deeplens_tf.models.heads import batch_norm_mlp, projection_head
from deeplens_tf.models.joint_embedding import JointEmbeddingModel
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.registered_method import register_method

Projections = tuple[KerasTensor, KerasTensor]

# As in SimCLR's code. A validation normalises by the moving statistics: with Keras's 0.99 they lag
# behind the weights, and after a short first epoch they are still close to their initial values.
NORM_MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="deeplens_tf")
class ContrastiveModel(JointEmbeddingModel):
    """Encoder and projector trained by symmetric InfoNCE, with an optional linear probe.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        projector: features -> projection, the input of the loss.
        temperature: positive divisor of the cosine similarities.
        probe: layer of class logits on the features, or None for unlabelled data.
        **kwargs: `keep_tokens` of `JointEmbeddingModel`, for masked views, and Keras's own.

    Raises:
        ValueError: a temperature that is not positive, or a part that doesn't fit.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> model = ContrastiveModel(encoder, projection_head(256), temperature=0.1)
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    @with_own_defaults
    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        temperature: float = 0.1,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        require_positive_temperature(temperature)
        super().__init__(encoder, projector, probe=probe, **kwargs)
        self.temperature = temperature
        self.accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(name="contrastive_accuracy")
        self.build()

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the mean InfoNCE; negatives are the images of all replicas."""
        view_1, view_2 = outputs["projections"]
        candidates = (self.replicas.gather(view_1), self.replicas.gather(view_2))
        first_row = self.replicas.first_row(view_1)
        self._count_found_partners((view_1, view_2), candidates, first_row)
        losses = contrastive_loss(view_1, view_2, self.temperature, candidates, first_row)
        return ops.mean(losses)

    def plateau_loss(self, images: int) -> float:
        """Return log(images): each image is as similar to its partner as to any other."""
        return math.log(images)

    def _count_found_partners(
        self, own: Projections, candidates: Projections, first_row: KerasTensor | int
    ) -> None:
        """Update the accuracy of choosing the partner, in both directions."""
        partners = partner_columns(own[0], first_row)
        for part, others in zip(own, reversed(candidates), strict=True):
            similarities = cosine_similarities(part, others, self.temperature)
            self.accuracy_tracker.update_state(partners, similarities)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        return {**super().get_config(), "temperature": self.temperature}


def contrastive(
    encoder: keras.Model,
    probe: keras.layers.Layer | None,
    total_steps: int,
    projection_width: int,
    temperature: float,
    projector: Literal["plain", "batch_norm"],
    keep_tokens: float,
) -> ContrastiveModel:
    """Build the method as a configuration names it.

    The projector is the original's `projection_head`, or one with a BatchNorm after its hidden
    layer, as in SimCLR (Chen et al. 2020, arXiv:2002.05709), whose code normalises the output too.
    Images of lenses are so alike that the plain one may map all of them to one direction and stay
    there, at a loss of log(batch size); the BatchNorm keeps them apart.
    """
    widths = (projection_width, projection_width)
    head = (
        projection_head(projection_width)
        if projector == "plain"
        else batch_norm_mlp(widths, "projector", momentum=NORM_MOMENTUM)
    )
    options = {"keep_tokens": keep_tokens, "name": "contrastive"}
    return ContrastiveModel(encoder, head, temperature, probe, **options)


register_method("contrastive", contrastive, ContrastiveModel)
