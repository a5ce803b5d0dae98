"""Supervised contrastive learning as a method, for the rows that use class labels.

Khosla et al. 2020, arXiv:2004.11362, eq. 2: each of the 2 n views of a batch has as positives all
other views of its class.

    python -m deeplens_tf.pretrain --plugin results.supervised_contrastive \
      --set pretrain.method=supervised_contrastive
"""

import math
from typing import Any

import keras
from keras import KerasTensor, ops

import deeplens_tf as dl


def supervised_contrastive_loss(
    projections: KerasTensor, labels: KerasTensor, temperature: float
) -> KerasTensor:
    """Return the loss of each view (eq. 2, "out").

    Args:
        projections: shape (views, dim).
        labels: shape (views,), class indices; each class has at least two views.
        temperature: positive divisor of the cosine similarities.
    """
    similarities = dl.losses.cosine_similarities(projections, projections, temperature)
    itself = ops.eye(ops.shape(projections)[0])
    log_shares = ops.log_softmax(similarities - 1e9 * itself, axis=1)  # (views, views)
    same = ops.cast(labels[:, None] == labels[None, :], "float32") - itself
    return -ops.sum(same * log_shares, axis=1) / ops.sum(same, axis=1)


@keras.saving.register_keras_serializable(package="results")
class SupervisedContrastiveModel(dl.models.ContrastiveModel):
    """A contrastive model with the supervised contrastive loss."""

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the mean over both views of all images of the batch."""
        super().pretext_loss(batch, outputs)  # for the accuracy of finding the partner
        projections = ops.concatenate(list(outputs["projections"]))
        labels = ops.concatenate([batch["label"]] * 2)
        return ops.mean(supervised_contrastive_loss(projections, labels, self.temperature))

    def plateau_loss(self, images: int) -> float:
        """Return log(2 images - 1): each view is as similar to its positives as to all others."""
        return math.log(2 * images - 1)


def supervised_contrastive(
    encoder: keras.Model,
    probe: keras.layers.Layer | None,
    total_steps: int,
    projection_width: int,
    temperature: float,
) -> SupervisedContrastiveModel:
    """Build the method with a normalised head."""
    projector = dl.models.batch_norm_mlp((projection_width,) * 2, "projector")
    return SupervisedContrastiveModel(encoder, projector, temperature, probe)


dl.models.register_method(
    "supervised_contrastive", supervised_contrastive, SupervisedContrastiveModel
)
