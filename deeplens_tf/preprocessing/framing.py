"""Which part of an image is kept, with which pixels and on which scale of values."""

from dataclasses import dataclass, replace

import numpy as np

from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.pixel_checks import require_usable
from deeplens_tf.preprocessing.resampling import kept_square, resample_with_margin
from deeplens_tf.preprocessing.scaling import crop_margin, kept_pixels, scale_with_margin
from deeplens_tf.preprocessing.value_scale import MIN_MAX, ValueScale

SCALE_TOLERANCE = 0.02  # relative difference of two pixel scales that count as one


@dataclass(frozen=True)
class Framing:
    """The part of an image that is kept, by its size in pixels or in arcsec, and its scale.

    Attributes:
        image_size: side of the result in pixels.
        fit: "resize" or "crop", see `scaling.resize_and_scale`.
        pixel_scale_arcsec: of the images; used to resample them.
        resample_to_arcsec: pixel scale to resample to; None for none.
        scale: of the values.
    """

    image_size: int
    fit: str
    pixel_scale_arcsec: float | None = None
    resample_to_arcsec: float | None = None
    scale: ValueScale = MIN_MAX

    def for_stated(self, found: float | None) -> "Framing":
        """Return the framing of an image for which this pixel scale is stated, None for none.

        Raises:
            UnusableFile: another scale than that of the images, which are not resampled.
        """
        if found is None or self.pixel_scale_arcsec is None:
            return self
        if self.resample_to_arcsec:
            return replace(self, pixel_scale_arcsec=found)
        if not same_scale(found, self.pixel_scale_arcsec):
            raise UnusableFile(
                f"its header or its row in the catalogue states pixels of {found:.4g} arcsec, and "
                f"those of the others are of {self.pixel_scale_arcsec:.4g}: resample all to use it"
            )
        return self

    @property
    def margin(self) -> int:
        """Width in pixels of the margin that views need."""
        return crop_margin(self.image_size, self.fit)

    def kept(self, image: np.ndarray) -> np.ndarray:
        """Return the source pixels that are kept of (height, width, bands).

        Raises:
            UnusableFile: the image does not cover the field to resample.
        """
        if self.pixel_scale_arcsec and self.resample_to_arcsec:
            return kept_square(
                image, self.image_size, self.pixel_scale_arcsec, self.resample_to_arcsec
            )
        return kept_pixels(image, self.image_size, self.fit)

    def without_nan(self, image: np.ndarray) -> tuple[np.ndarray, int]:
        """Return an image with its few NaN pixels filled, and how many of the kept ones were.

        Raises:
            UnusableFile: the image does not cover the field to resample.
        """
        return self.scale.without_nan(image, self.kept(image))

    def require_usable(self, image: np.ndarray) -> None:
        """Refuse an image that cannot be used, whatever the interval of the other images is.

        Args:
            image: (height, width, bands), see `without_nan`.

        Raises:
            UnusableFile: see `pixel_checks.require_usable`, or the image does not cover the field.
        """
        kept, apart = self.kept(image), self.scale.scale_bands == "each"
        cropped = kept.shape != image.shape
        for part in np.split(kept, kept.shape[-1], axis=-1) if apart else [kept]:
            require_usable(part, self.scale, cropped)

    def scaled(self, image: np.ndarray) -> np.ndarray:
        """Return an image as a network takes it, with the margin that views need around it.

        Args:
            image: (height, width, bands), see `without_nan`.

        Returns:
            (S, S, bands), float32 in [0, 1], with S = image_size + 2 * margin.

        Raises:
            UnusableFile: the pixels that are kept cannot be scaled, or do not cover the field.
        """
        if self.pixel_scale_arcsec and self.resample_to_arcsec:
            scales = self.pixel_scale_arcsec, self.resample_to_arcsec
            return resample_with_margin(image, self.image_size, self.fit, *scales, self.scale)
        return scale_with_margin(image, self.image_size, self.fit, self.scale)


def same_scale(one: float, other: float) -> bool:
    """Return whether two pixel scales are the same within 2 %."""
    return abs(one - other) <= SCALE_TOLERANCE * max(one, other)
