"""Models that take images in [0, 1] and know how raw images become those."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeplens_tf.models.encoders import image_shape_of
from deeplens_tf.preprocessing.preprocessing import Preprocessing, RawImages

IMAGES_PER_STEP = 256
RANGE_TOLERANCE = 1e-3  # beyond the ends of [0, 1]: rounding errors of another program's scaling


class ImageModel(keras.Model):
    """A model whose `predict` warns of pixels as files have them, and that can prepare those."""

    _has_warned = False
    _right_call = "Scale each image as in training"

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs for images in [0, 1], as `keras.Model.predict` does.

        Warns once if an array has values outside of that range, or such that are not finite.
        """
        if not self._has_warned and _is_outside(x):
            self._has_warned = True
            warnings.warn(
                f"{self.name} was trained on images in [0, 1], and these have other values: its "
                f"outputs are wrong. {self._right_call}",
                UserWarning,
                stacklevel=2,
            )
        return super().predict(x, *args, **kwargs)

    def _predict_raw(
        self, images: RawImages, pixel_scale_arcsec: float | None, batch_size: int
    ) -> NDArray[np.float32]:
        preprocessing, image_shape = getattr(self, "preprocessing", None), image_shape_of(self)
        if preprocessing is None:
            raise ValueError(
                f"{self.name} must have a preprocessing for raw images, which it lacks if it is of "
                "an earlier version or built in Python: set the encoder's attribute preprocessing "
                "to that of its training data, or pass images in [0, 1] to predict"
            )
        if preprocessing.image_shape != image_shape:
            raise ValueError(
                f"{self.name} must have a preprocessing for its images of {image_shape}. "
                f"Received: one for {preprocessing.image_shape}"
            )
        prepared = preprocessing.apply(images, pixel_scale_arcsec=pixel_scale_arcsec)
        if not len(prepared):
            raise ValueError("images must contain at least one image. Received: none")
        return np.asarray(super().predict(prepared, batch_size, verbose=0), np.float32)


class ImageEncoder(ImageModel):
    """An encoder: image to feature vector.

    Args:
        preprocessing: how raw images become the encoder's, or the plain data that describe it;
            None if unknown. Training stores that of its data, and the encoder's file keeps it.
    """

    _right_call = "features() takes raw images"

    def __init__(
        self, preprocessing: Preprocessing | Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if preprocessing is not None and not isinstance(preprocessing, Preprocessing):
            preprocessing = Preprocessing.from_dict(preprocessing)
        self.preprocessing: Preprocessing | None = preprocessing

    @property
    def stages(self) -> list[list[keras.layers.Layer]]:
        """Layers by depth, those nearest to the image first; empty if their order is unknown.

        Layers on top of the last stage, such as a last normalisation, are in none.
        """
        return []

    def features(
        self,
        images: RawImages,
        *,
        pixel_scale_arcsec: float | None = None,
        batch_size: int = IMAGES_PER_STEP,
    ) -> NDArray[np.float32]:
        """Return the features of raw images, which are prepared as in training.

        Args:
            images: pixels as files have them, shape (n, height, width) or (n, height, width,
                bands), or a list of images of different sizes.
            pixel_scale_arcsec: of these images, to resample them to the scale of the training
                images; None if it is that of the training files.
            batch_size: images per step.

        Returns:
            Shape (n, dim).

        Raises:
            ValueError: the preprocessing is unknown, or an image cannot be used, as `images[i]`.
        """
        return self._predict_raw(images, pixel_scale_arcsec, batch_size)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; the preprocessing only where it is known."""
        known = self.preprocessing
        return super().get_config() | ({} if known is None else {"preprocessing": known.to_dict()})


def _is_outside(images: Any) -> bool:
    """Return whether an array or a tensor has values outside of [0, 1] or not finite ones."""
    if not (isinstance(images, np.ndarray) or keras.ops.is_tensor(images)):
        return False  # a data set, which is read only once
    values = np.asarray(keras.ops.convert_to_numpy(images))
    if not values.size or values.dtype.kind not in "fiu":
        return False
    low, high = values.min(), values.max()
    return not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE)  # NaN is outside too
