"""The part that contrastive learning, Barlow Twins, BYOL and SimSiam have in common."""

from typing import Any

import keras
from keras import KerasTensor

from deeplens_tf.models.encoders import build_on_features, feature_shape
from deeplens_tf.models.self_supervised import ORDERS, SelfSupervisedModel, require_keys

VIEWS = tuple(ORDERS)


class JointEmbeddingModel(SelfSupervisedModel):
    """Encoder, projector and optional predictor, applied to two views of each image.

    A subclass defines `pretext_loss` on the outputs of `call`.

    With `keep_tokens` below 1 the encoder sees a random part of each view, round(keep_tokens *
    patches) of its patches and at least one, in about that part of the time: as in PatchDropout
    (Liu et al. 2022, arXiv:2208.07220), FLIP (Li et al. 2022, arXiv:2212.00794) and Masked Siamese
    Networks (Assran et al. 2022, arXiv:2204.07141). A batch then contains `patch_order_1` and
    `patch_order_2`, a random permutation of the patches of each view (batch, patches), of which the
    first ones are kept. It comes with the data, so that it is the same whenever a run computes the
    image. `features`, and with them the probe of a training step, are those of the kept patches.

    Args:
        encoder: any built Keras model, image -> features (batch, dim).
        projector: features -> projection.
        predictor: projection -> prediction, of the same length; None for methods without one.
        probe: layer of class logits on the features, or None for unlabelled data.
        keep_tokens: share of the patches that each view keeps, above 0 and at most 1.

    Raises:
        ValueError: not an encoder, not a layer, a prediction of another length, or a share below 1
            for an encoder without patch tokens.
    """

    has_predictor = False
    """Whether the method needs a predictor."""

    masks_views = True
    """Whether `call` encodes views by `encode`. A class that overrides `call` says so itself."""

    smallest_batch = 2
    """One image has no other to be compared with, and no spread for a BatchNorm."""

    def __init__(
        self,
        encoder: keras.Model,
        projector: keras.layers.Layer,
        predictor: keras.layers.Layer | None = None,
        probe: keras.layers.Layer | None = None,
        keep_tokens: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, probe, **kwargs)
        self.keep_tokens = keep_tokens
        if keep_tokens != 1:
            self._require_masks()
            self.patch_count = encoder.patch_count
        for name, head in (("projector", projector), ("predictor", predictor)):
            left_out = head is None and name == "predictor" and not self.has_predictor
            if not left_out and not isinstance(head, keras.layers.Layer):
                raise ValueError(f"{name} must be a Keras layer. Received: {name}={head!r}")
        self.projector = projector
        self.predictor = predictor

    def _require_masks(self) -> None:
        if not 0 < self.keep_tokens < 1:
            raise ValueError(
                "keep_tokens must be above 0 and at most 1. "
                f"Received: keep_tokens={self.keep_tokens}"
            )
        if not hasattr(self.encoder, "encode_kept"):
            raise ValueError(
                "keep_tokens must be 1.0 for an encoder that is no Vision Transformer of this "
                "package: it has no patch tokens to choose from. "
                f"Received: keep_tokens={self.keep_tokens} and {self.encoder.name}, "
                f"a {type(self.encoder).__name__}"
            )
        owner = next(kind for kind in type(self).__mro__ if "call" in vars(kind))
        if not vars(owner).get("masks_views"):
            raise ValueError(
                f"keep_tokens must be 1.0 for {type(self).__name__}: {owner.__name__} has a call "
                "of its own, which may encode whole views. If it encodes by self.encode, set its "
                f"attribute masks_views = True. Received: keep_tokens={self.keep_tokens}"
            )

    @property
    def kept(self) -> int:
        """Number of patches that each view keeps, where `keep_tokens` is below 1."""
        return max(1, round(self.keep_tokens * self.patch_count))

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
        features = tuple(self.encode(self.encoder, batch, view, training) for view in VIEWS)
        projections = tuple(self.projector(part, training=training) for part in features)
        outputs = {"features": features, "projections": projections}
        if self.predictor is not None:
            predictions = (self.predictor(part, training=training) for part in projections)
            outputs["predictions"] = tuple(predictions)
        return outputs

    def encode(
        self,
        encoder: keras.Model,
        batch: dict[str, KerasTensor],
        view: str,
        training: bool | None = None,
    ) -> KerasTensor:
        """Return an encoder's features of a view, of its kept patches only where the model masks.

        Args:
            encoder: of the model, or a copy of it such as BYOL's target.
            batch: see the class.
            view: "view_1" or "view_2".
            training: whether dropout is active.

        Raises:
            ValueError: an order of the patches is missing, or is not one of the encoder's.
        """
        if self.keep_tokens == 1:
            return encoder(batch[view], training=training)
        require_keys(batch, ORDERS[view])
        order = batch[ORDERS[view]]  # (batch, patches)
        if order.shape[1:] != (self.patch_count,):
            raise ValueError(
                f"{ORDERS[view]} must be an order of the {self.patch_count} patches of "
                f"{encoder.name}. Received: shape {tuple(order.shape)}"
            )
        return encoder.encode_kept(batch[view], order[:, : self.kept], training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        heads = {"projector": self.projector, "predictor": self.predictor}
        return {
            **super().get_config(),
            "keep_tokens": self.keep_tokens,
            **{
                name: keras.saving.serialize_keras_object(head)
                for name, head in heads.items()
                if head is not None
            },
        }
