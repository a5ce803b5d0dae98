"""Inpainting: predict the pixels of dropped patches from the visible ones.

A masked autoencoder, He et al. 2021, arXiv:2111.06377.
"""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.models.own_defaults import with_own_defaults
from deeplens_tf.models.patch_decoder import PatchDecoder
from deeplens_tf.models.patches import choose, patchify, unpatchify
from deeplens_tf.models.registered_method import register_method
from deeplens_tf.models.self_supervised import SelfSupervisedModel, require_keys
from deeplens_tf.models.structural_similarity import ssim_map
from deeplens_tf.models.vit import VisionTransformer


@keras.saving.register_keras_serializable(package="deeplens_tf")
class InpaintingModel(SelfSupervisedModel):
    """Vision Transformer on the visible patches, and a small decoder that predicts the others.

    A batch contains `view_1` (batch, height, width, bands) and `patch_order` (batch, patches), a
    random permutation of each image's patches: the first ones are visible, the others are dropped
    before the encoder's blocks. The order comes with the data, so that it is the same whenever a
    run computes the image.

    `feature_std` is computed from the visible patches. It depends on the choice of patches too
    and cannot be compared with that of other methods.

    Args:
        encoder: built `VisionTransformer`.
        decoder: tokens of the encoder -> pixels of all patches, see `decoder_for`.
        mask_ratio: fraction of the patches that is dropped.
        probe: layer of class logits on the features, or None for unlabelled data.

    Raises:
        ValueError: another encoder, or a ratio at which no patch is visible or none is dropped.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> model = InpaintingModel(encoder, decoder_for(encoder, width=64, depth=2, heads=4))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, patch_order, image
    """

    @with_own_defaults
    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.layers.Layer,
        mask_ratio: float = 0.75,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        _require_transformer(encoder)
        super().__init__(encoder, probe, **kwargs)
        self.decoder = decoder
        self.mask_ratio = mask_ratio
        self.patch_count = encoder.patch_count
        self.visible = round((1 - mask_ratio) * self.patch_count)
        if not 0 < self.visible < self.patch_count:
            raise ValueError(
                f"mask_ratio must be a fraction that neither drops all nor none of an image's "
                f"patches, here {self.patch_count}; a smaller patch_size gives more. "
                f"Received: mask_ratio={mask_ratio}, which drops {self.patch_count - self.visible}"
            )
        self.mse_tracker = keras.metrics.Mean(name="masked_mse")
        self.ssim_tracker = keras.metrics.Mean(name="masked_ssim")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Create the variables of the decoder and the probe."""
        super().build(input_shape)
        if not self.decoder.built:
            self.decoder.build((None, None, self.encoder.width))

    def call(self, batch: dict[str, KerasTensor], training: bool | None = None) -> dict[str, Any]:
        """Return the `features` of the visible patches and the predicted `patches`."""
        require_keys(batch, "view_1", "patch_order")
        order = batch["patch_order"]
        tokens = self.encode_visible(batch["view_1"], order, training)
        patches = self.decoder(tokens, order, training=training)
        return {"features": (self.encoder.pool(tokens),), "patches": patches}

    def encode_visible(
        self, images: KerasTensor, order: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Return the encoder's tokens of the first patches in `order`.

        Returns:
            Shape (batch, visible, width), with the class token first where there is one.
        """
        return self.encoder.transform_kept(images, order[:, : self.visible], training)

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the mean squared error of the pixels of the dropped patches."""
        dropped = batch["patch_order"][:, self.visible :]
        pixels = ops.cast(patchify(batch["view_1"], self._patch_size), "float32")
        errors = choose(outputs["patches"], dropped) - choose(pixels, dropped)
        loss = ops.mean(ops.square(errors))
        self.track(self.mse_tracker, loss, outputs)
        self.track(self.ssim_tracker, self._masked_ssim(batch, outputs["patches"]), outputs)
        return loss

    def _masked_ssim(self, batch: dict[str, KerasTensor], predicted: KerasTensor) -> KerasTensor:
        """Return the mean structural similarity of the dropped pixels before and after."""
        images, order = batch["view_1"], batch["patch_order"]
        inpainted = self._inpainted(images, order, ops.stop_gradient(predicted))
        dropped = ops.cast(self._dropped_pixels(order), "float32")
        return ops.sum(ssim_map(images, inpainted) * dropped) / ops.sum(dropped)

    def inpaint(self, batch: dict[str, KerasTensor]) -> tuple[KerasTensor, KerasTensor]:
        """Return the images with the dropped patches set to 0, and with predicted pixels instead.

        Returns:
            Two of shape (batch, height, width, bands), float32.
        """
        images, order = ops.cast(batch["view_1"], "float32"), batch["patch_order"]
        masked = ops.where(self._dropped_pixels(order), 0.0, images)
        predicted = self(batch, training=False)["patches"]
        return masked, self._inpainted(images, order, predicted)

    def _inpainted(
        self, images: KerasTensor, order: KerasTensor, predicted: KerasTensor
    ) -> KerasTensor:
        predicted = unpatchify(predicted, self.encoder.image_shape, self._patch_size)
        return ops.where(self._dropped_pixels(order), predicted, ops.cast(images, "float32"))

    def _dropped_pixels(self, order: KerasTensor) -> KerasTensor:
        """Return True at each pixel of a dropped patch: (batch, height, width, bands)."""
        dropped = ops.argsort(order, axis=1) >= self.visible  # (batch, patches)
        pixels = self._patch_size**2 * self.encoder.image_shape[2]
        dropped = ops.repeat(dropped[:, :, None], pixels, axis=2)
        return unpatchify(dropped, self.encoder.image_shape, self._patch_size)

    @property
    def _patch_size(self) -> int:
        return self.encoder.options["patch_size"]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the nested models serialised."""
        return {
            **super().get_config(),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "mask_ratio": self.mask_ratio,
        }


def decoder_for(encoder: VisionTransformer, width: int, depth: int, heads: int) -> PatchDecoder:
    """Return a new decoder for the patches of `encoder`.

    Args:
        encoder: built Vision Transformer.
        width: length of the decoder's tokens.
        depth: number of blocks.
        heads: attention heads per block.

    Raises:
        ValueError: another encoder, or heads that do not divide the width.
    """
    _require_transformer(encoder)
    if width % heads:
        raise ValueError(f"heads must divide width={width}. Received: heads={heads}")
    return PatchDecoder(
        encoder.patch_count,
        encoder.options["patch_size"] ** 2 * encoder.image_shape[2],
        width,
        depth,
        heads,
        class_token=encoder.pooling == "class_token",
        name="decoder",
    )


def _require_transformer(encoder: keras.Model) -> None:
    if not isinstance(encoder, VisionTransformer):
        raise ValueError(
            "encoder must be a VisionTransformer for inpainting: vit_nano, vit_tiny or vit_small. "
            f"Received: encoder={encoder.name}, a {type(encoder).__name__}"
        )


def inpainting(
    encoder: keras.Model,
    probe: keras.layers.Layer | None,
    total_steps: int,
    mask_ratio: float,
    decoder_width: int,
    decoder_depth: int,
    decoder_heads: int,
) -> InpaintingModel:
    """Build the method as a configuration names it."""
    decoder = decoder_for(encoder, decoder_width, decoder_depth, decoder_heads)
    return InpaintingModel(encoder, decoder, mask_ratio, probe, name="inpainting")


register_method("inpainting", inpainting, InpaintingModel)
