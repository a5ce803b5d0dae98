"""SimSiam: each view predicts the projection of the other, without gradient through the latter."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.losses import simsiam_loss
from deeplens_tf.models.heads import batch_norm_mlp
from deeplens_tf.models.joint_embedding import JointEmbeddingModel
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.registered_method import register_method


@keras.saving.register_keras_serializable(package="deeplens_tf")
class SimSiamModel(JointEmbeddingModel):
    """SimSiam (Chen and He 2020, arXiv:2011.10566), with an optional linear probe.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        projector: features -> projection.
        predictor: projection -> prediction of the other view's projection, of the same length.
        probe: layer of class logits on the features, or None for unlabelled data.
        **kwargs: `keep_tokens` of `JointEmbeddingModel`, for masked views, and Keras's own.

    Raises:
        ValueError: a part that doesn't fit.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> projector = batch_norm_mlp((256, 256, 256), "projector", norm_output=True)
        >>> model = SimSiamModel(encoder, projector, batch_norm_mlp((64, 256), "predictor"))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    has_predictor = True

    @with_own_defaults
    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        predictor: keras.layers.Layer,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, projector, predictor, probe, **kwargs)
        self.build()

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the loss averaged over both directions (eq. 2)."""
        (p1, p2), (z1, z2) = outputs["predictions"], outputs["projections"]
        return (simsiam_loss(p1, z2) + simsiam_loss(p2, z1)) / 2


def simsiam(
    encoder: keras.Model,
    probe: keras.layers.Layer | None,
    total_steps: int,
    projection_width: int,
    predictor_width: int,
    keep_tokens: float,
) -> SimSiamModel:
    """Build the method as a configuration names it.

    The projector is the paper's: three layers, with a BatchNorm after the last one too.
    """
    projector = batch_norm_mlp((projection_width,) * 3, "projector", norm_output=True)
    predictor = batch_norm_mlp((predictor_width, projection_width), "predictor")
    options = {"keep_tokens": keep_tokens, "name": "simsiam"}
    return SimSiamModel(encoder, projector, predictor, probe, **options)


register_method("simsiam", simsiam, SimSiamModel)
