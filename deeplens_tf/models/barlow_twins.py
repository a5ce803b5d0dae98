"""Twin network: the two views' projections agree, and no two of their numbers say the same."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.losses import barlow_twins_loss
from deeplens_tf.models.self_supervised import SelfSupervisedModel, build_on_features


@keras.saving.register_keras_serializable(package="deeplens_tf")
class BarlowTwinsModel(SelfSupervisedModel):
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230), with an optional linear probe.

    Args:
        encoder: built model, image -> features.
        projector: features -> projection, on which the cross-correlation is taken.
        off_diagonal_weight: weight of the redundancy between the projection's numbers.
        probe: layer of class logits on the features, or None for unlabelled data.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> model = BarlowTwinsModel(encoder, batch_norm_mlp((256, 256, 256), "projector"))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        off_diagonal_weight: float = 5e-3,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, probe, **kwargs)
        self.projector = projector
        self.off_diagonal_weight = off_diagonal_weight
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
        """Return the distance of the cross-correlation from the identity."""
        everyone = [self.replicas.gather(part) for part in outputs["projections"]]
        return barlow_twins_loss(*everyone, self.off_diagonal_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        return {
            **super().get_config(),
            "projector": keras.saving.serialize_keras_object(self.projector),
            "off_diagonal_weight": self.off_diagonal_weight,
        }
