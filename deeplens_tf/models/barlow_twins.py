"""Barlow Twins: drive the cross-correlation matrix of two views to the identity."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.losses import barlow_twins_loss
from deeplens_tf.models.heads import batch_norm_mlp
from deeplens_tf.models.joint_embedding import JointEmbeddingModel
from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.registered_method import register_method


@keras.saving.register_keras_serializable(package="deeplens_tf")
class BarlowTwinsModel(JointEmbeddingModel):
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230), with an optional linear probe.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        projector: features -> projection, of which the cross-correlation is taken.
        off_diagonal_weight: weight of the off-diagonal correlations in the loss.
        probe: layer of class logits on the features, or None for unlabelled data.
        **kwargs: `keep_tokens` of `JointEmbeddingModel`, for masked views, and Keras's own.

    Raises:
        ValueError: a negative weight, or a part that doesn't fit.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> model = BarlowTwinsModel(encoder, batch_norm_mlp((256, 256, 256), "projector"))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    @with_own_defaults
    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        off_diagonal_weight: float = 5e-3,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        if not off_diagonal_weight >= 0:
            raise ValueError(
                "off_diagonal_weight must be at least 0. "
                f"Received: off_diagonal_weight={off_diagonal_weight}"
            )
        super().__init__(encoder, projector, probe=probe, **kwargs)
        self.off_diagonal_weight = off_diagonal_weight
        self.build()

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the distance from the identity, over the images of all replicas."""
        view_1, view_2 = (self.replicas.gather(part) for part in outputs["projections"])
        return barlow_twins_loss(view_1, view_2, self.off_diagonal_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        return {**super().get_config(), "off_diagonal_weight": self.off_diagonal_weight}


# The class had this name when files were saved that must still load.
TwinModel = BarlowTwinsModel
keras.saving.get_custom_objects()["deeplens_tf>TwinModel"] = BarlowTwinsModel


def twin(
    encoder: keras.Model,
    probe: keras.layers.Layer | None,
    total_steps: int,
    projection_width: int,
    off_diagonal_weight: float,
    keep_tokens: float,
) -> BarlowTwinsModel:
    """Build the method as a configuration names it."""
    # Three layers of one width, as in the paper.
    projector = batch_norm_mlp((projection_width,) * 3, "projector")
    options = {"keep_tokens": keep_tokens, "name": "twin"}
    return BarlowTwinsModel(encoder, projector, off_diagonal_weight, probe, **options)


register_method("twin", twin, BarlowTwinsModel)
