"""Inpainting: from a quarter of an image's patches to the pixels of the others.

A masked autoencoder, He et al. 2021, arXiv:2111.06377.
"""

from typing import Any

import keras
from keras import KerasTensor, ops

from deeplens_tf.errors import RequestError
from deeplens_tf.models.patch_decoder import PatchDecoder
from deeplens_tf.models.patches import choose, patchify, unpatchify
from deeplens_tf.models.self_supervised import SelfSupervisedModel
from deeplens_tf.models.structural_similarity import ssim_map
from deeplens_tf.models.vit import VisionTransformer


@keras.saving.register_keras_serializable(package="deeplens_tf")
class InpaintingModel(SelfSupervisedModel):
    """Vision Transformer that sees some patches, and a light decoder that predicts the rest.

    A batch holds `view_1` (batch, height, width, bands), which is masked and restored, and
    `patch_order` (batch, patches), a random permutation of each image's patches: its first ones
    are seen, the others are dropped ahead of the encoder's blocks. The order comes with the
    data, so that a run repeats it wherever an image is computed.

    The features that `feature_std` watches are those of the patches seen. They differ between
    images by the places seen too, so the number is not to be compared with other methods'.

    Args:
        encoder: built `VisionTransformer` without the original's layers on top, which restored
            pixels could not train.
        decoder: from the encoder's tokens to the pixels of all patches, see `decoder_for`.
        mask_ratio: share of the patches that is dropped.
        probe: layer of class logits on the features, or None for unlabelled data.

    Raises:
        RequestError: another encoder, or a share that leaves no patch seen or none dropped.

    Example:
        >>> encoder = build_encoder("vit_nano", (64, 64, 1))
        >>> model = InpaintingModel(encoder, decoder_for(encoder, width=64, depth=2, heads=4))
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # dicts with view_1, patch_order, image
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.layers.Layer,
        mask_ratio: float = 0.75,
        probe: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        require_patches(encoder)
        super().__init__(encoder, probe, **kwargs)
        self.decoder = decoder
        self.mask_ratio = mask_ratio
        self.patch_count = patches_of(encoder)
        self.visible = round((1 - mask_ratio) * self.patch_count)
        if not 0 < self.visible < self.patch_count:
            raise RequestError(
                f"pretrain.inpainting.mask_ratio {mask_ratio} of {self.patch_count} patches "
                f"leaves {self.visible} to be seen: change it, or encoder.patch_size"
            )
        self.mse_tracker = keras.metrics.Mean(name="masked_mse")
        self.ssim_tracker = keras.metrics.Mean(name="masked_ssim")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Allocate the decoder and the probe."""
        super().build(input_shape)
        if not self.decoder.built:
            self.decoder.build((None, None, self.encoder.width))

    def call(self, batch: dict[str, KerasTensor], training: bool | None = None) -> dict[str, Any]:
        """Return the `features` of what is seen and the `patches` that the decoder predicts."""
        order = batch["patch_order"]
        tokens = self.encode_visible(batch["view_1"], order, training)
        patches = self.decoder(tokens, order, training=training)
        return {"features": (self.encoder.pool(tokens, training),), "patches": patches}

    def encode_visible(
        self, images: KerasTensor, order: KerasTensor, training: bool | None = None
    ) -> KerasTensor:
        """Return the encoder's tokens of the patches that `order` names first.

        Returns:
            Shape (batch, visible, width), preceded by the class token where there is one.
        """
        tokens = self.encoder.embedding(images)  # (batch, [1 +] patches, width)
        first = tokens.shape[1] - self.patch_count
        seen = choose(tokens[:, first:], order[:, : self.visible])
        seen = ops.concatenate([tokens[:, :first], seen], axis=1)
        return self.encoder.transform(seen, training)

    def pretext_loss(self, batch: dict[str, KerasTensor], outputs: dict[str, Any]) -> KerasTensor:
        """Return the mean squared error of the dropped patches' pixels."""
        dropped = batch["patch_order"][:, self.visible :]
        pixels = ops.cast(patchify(batch["view_1"], self._patch_size), "float32")
        errors = choose(outputs["patches"], dropped) - choose(pixels, dropped)
        loss = ops.mean(ops.square(errors))
        self.mse_tracker.update_state(loss)
        self.ssim_tracker.update_state(self._masked_ssim(batch, outputs["patches"]))
        return loss

    def _masked_ssim(self, batch: dict[str, KerasTensor], predicted: KerasTensor) -> KerasTensor:
        """Mean structural similarity of image and inpainted image over the dropped pixels."""
        images, order = batch["view_1"], batch["patch_order"]
        inpainted = self._inpainted(images, order, ops.stop_gradient(predicted))
        dropped = ops.cast(self._dropped_pixels(order), "float32")
        return ops.sum(ssim_map(images, inpainted) * dropped) / ops.sum(dropped)

    def inpaint(self, batch: dict[str, KerasTensor]) -> tuple[KerasTensor, KerasTensor]:
        """Return the images with the dropped patches at 0, and with the predicted in their place.

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
    """Return a fresh decoder for the patches of `encoder`.

    Args:
        encoder: built Vision Transformer.
        width: length of the decoder's tokens.
        depth: number of blocks.
        heads: attention heads a block.

    Raises:
        RequestError: another encoder, or a width that the heads cannot share.
    """
    require_patches(encoder)
    if width % heads:
        raise RequestError(
            f"pretrain.inpainting: {heads} decoder heads cannot share a width of {width}"
        )
    return PatchDecoder(
        patches_of(encoder),
        encoder.options["patch_size"] ** 2 * encoder.image_shape[2],
        width,
        depth,
        heads,
        class_token=encoder.pooling == "class_token",
        name="decoder",
    )


def patches_of(encoder: VisionTransformer) -> int:
    """Return how many patches the encoder cuts an image into."""
    height, width, _ = encoder.image_shape
    return (height // encoder.options["patch_size"]) * (width // encoder.options["patch_size"])


def require_patches(encoder: keras.Model) -> None:
    """Refuse an encoder that inpainting cannot train.

    Raises:
        RequestError: no Vision Transformer, or one with layers on top of its tokens.
    """
    advice = "set encoder.name to vit_nano, vit_tiny or vit_small"
    if not isinstance(encoder, VisionTransformer):
        raise RequestError(
            f"pretrain.method inpainting drops patches, and {encoder.name} has none: {advice}"
        )
    if encoder.top is not None:
        raise RequestError(
            f"pretrain.method inpainting would leave the layers on top of {encoder.name} "
            f"untrained: {advice}"
        )
