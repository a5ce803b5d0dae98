"""The part that contrastive learning, Barlow Twins, BYOL and SimSiam have in common."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.models.encoders import build_on_features, feature_shape
from deeplens_tf.models.self_supervised import SelfSupervisedModel, require_keys

VIEWS = ("view_1", "view_2")


class JointEmbeddingModel(SelfSupervisedModel):
    """Encoder, projector and optional predictor, applied to two views of each image.

    A subclass defines `pretext_loss` on the outputs of `call`.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        projector: features -> projection.
        predictor: projection -> prediction, of the same length; None for methods without one.
        probe: layer of class logits on the features, or None for unlabelled data.

    Raises:
        ValueError: not an encoder, not a layer, or a prediction of another length.
    """

    has_predictor = False
    """Whether the method needs a predictor."""

    smallest_batch = 2
    """One image has no other to be compared with, and no spread for a BatchNorm."""

    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        predictor: keras.layers.Layer | None = None,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, probe, **kwargs)
        for name, head in (("projector", projector), ("predictor", predictor)):
            left_out = head is None and name == "predictor" and not self.has_predictor
            if not left_out and not isinstance(head, keras.layers.Layer):
                raise ValueError(f"{name} must be a Keras layer. Received: {name}={head!r}")
        self.projector = projector
        self.predictor = predictor

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the heads and the probe."""
        super().build(input_shape)
        build_on_features(self.projector, self.encoder)
        if self.predictor is not None:
            self._build_predictor(self.predictor)

    def _build_predictor(self, predictor: keras.layers.Layer) -> None:
        projection = self.projector.compute_output_shape(feature_shape(self.encoder))
        if not predictor.built:
            predictor.build(projection)
        prediction = predictor.compute_output_shape(projection)
        if prediction[-1] != projection[-1]:
            raise ValueError(
                f"predictor must return as many numbers as the projector, {projection[-1]}. "
                f"Received: {prediction[-1]}"
            )

    def call(
        self, batch: dict[str, KerasTensor], training: bool | None = None
    ) -> dict[str, tuple[KerasTensor, ...]]:
        """Return `features`, `projections` and `predictions` of both views, each (batch, dim).

        Without a predictor there are no `predictions`.
        """
        require_keys(batch, *VIEWS)
        # One view at a time, so that the statistics of a BatchNorm are those of one view.
        features = tuple(self.encoder(batch[view], training=training) for view in VIEWS)
        projections = tuple(self.projector(part, training=training) for part in features)
        outputs = {"features": features, "projections": projections}
        if self.predictor is not None:
            predictions = (self.predictor(part, training=training) for part in projections)
            outputs["predictions"] = tuple(predictions)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        heads = {"projector": self.projector, "predictor": self.predictor}
        return {
            **super().get_config(),
            **{
                name: keras.saving.serialize_keras_object(head)
                for name, head in heads.items()
                if head is not None
            },
        }
