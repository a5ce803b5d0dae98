"""SimSiam: each view predicts the other's projection, which is held still meanwhile."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.losses import simsiam_loss
from deeplens_tf.models.self_supervised import SelfSupervisedModel, build_on_features


@keras.saving.register_keras_serializable(package="deeplens_tf")
class SimSiamModel(SelfSupervisedModel):
    """SimSiam (Chen and He 2020, arXiv:2011.10566), with an optional linear probe.

    Args:
        encoder: built model, image -> features.
        projector: features -> projection.
        predictor: projection -> prediction of the other view's projection, as long as it.
        probe: layer of class logits on the features, or None for unlabelled data.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> projector = batch_norm_mlp((256, 256, 256), "projector", norm_output=True)
        >>> model = SimSiamModel(encoder, projector, batch_norm_mlp((64, 256), "predictor"))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, view_2, image
    """

    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        predictor: keras.layers.Layer,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, probe, **kwargs)
        self.projector = projector
        self.predictor = predictor
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Allocate the projector, the predictor and the probe."""
        super().build(input_shape)
        build_on_features(self.projector, self.encoder)
        if not self.predictor.built:
            self.predictor.build(self.projector.output_shape)

    def call(
        self, batch: dict[str, KerasTensor], training: bool | None = None
    ) -> dict[str, tuple[KerasTensor, KerasTensor]]:
        """Return `features`, `projections` and `predictions` of both views, each (batch, dim)."""
        features = self.encode_views(batch, training)
        projections = tuple(self.projector(part, training=training) for part in features)
        predictions = tuple(self.predictor(part, training=training) for part in projections)
        return {"features": features, "projections": projections, "predictions": predictions}

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the loss averaged over both crossings (eq. 2)."""
        (p1, p2), (z1, z2) = outputs["predictions"], outputs["projections"]
        return (simsiam_loss(p1, z2) + simsiam_loss(p2, z1)) / 2

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        serialise = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "projector": serialise(self.projector),
            "predictor": serialise(self.predictor),
        }
