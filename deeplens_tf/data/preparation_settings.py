"""The settings that decide the content of a prepared folder."""

from dataclasses import asdict, dataclass, field
from typing import Any

from deeplens_tf.config import IMAGE_SIZE, POSITIVE, VALIDATION_FRACTION
from deeplens_tf.data.whole_numbers import is_real, is_whole
from deeplens_tf.errors import RequestError
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.scaling import FIT_MODES, crop_margin
from deeplens_tf.preprocessing.selection import SELECTION_KEYS, Selection
from deeplens_tf.preprocessing.value_scale import MIN_MAX, ValueScale


@dataclass(frozen=True)
class PreparationSettings:
    """The settings that decide the content of a prepared folder.

    Attributes:
        image_size: side of the prepared images in pixels.
        fit: "resize" or "crop", see `scaling.resize_and_scale`.
        validation_fraction: fraction of each class for validation; 0 for no such split.
        seed: decides the split and the order of the examples.
        mixed_sizes: whether images of different sizes are resized all the same.
        band_names: of the bands of the source images, in their order; None if unknown.
        pixel_scale_arcsec: of the source images; None if unknown.
        resample_to_arcsec: pixel scale to resample every image to; None for none.
        scale: of the values.
        fits_hdu: number or name of the HDU of a FITS file; None for the first image.
        hdf5_dataset: name of the array in an HDF5 file; None for the only one.
        stacks: whether a `.npy` array of three or four axes is a stack of images.
        band_files: pattern of the names of files that hold one band each.
        margin: width in pixels of the margin that is stored around each image; it follows from
            `image_size` and `fit`, see `scaling.crop_margin`.

    Raises:
        RequestError: a setting out of range.
    """

    image_size: int
    fit: str
    validation_fraction: float
    seed: int
    mixed_sizes: bool = False
    band_names: tuple[str, ...] | None = None
    pixel_scale_arcsec: float | None = None
    resample_to_arcsec: float | None = None
    scale: ValueScale = MIN_MAX
    fits_hdu: int | str | None = None
    hdf5_dataset: str | None = None
    stacks: bool | None = None
    band_files: str | None = None
    margin: int = field(init=False)

    def __post_init__(self) -> None:
        size, seed, fraction = self.image_size, self.seed, self.validation_fraction
        is_size = is_whole(size) and IMAGE_SIZE.admits(size)
        _require_setting(is_size, "image_size", size, "a whole number from 8 to 4096")
        is_seed = is_whole(seed) and seed >= 0
        _require_setting(is_seed, "seed", seed, "a whole number of at least 0")
        _require_setting(self.fit in FIT_MODES, "fit", self.fit, " or ".join(FIT_MODES))
        is_fraction = is_real(fraction) and VALIDATION_FRACTION.admits(float(fraction))
        _require_setting(is_fraction, "validation_fraction", fraction, "0 to 0.9")
        for name in ("pixel_scale_arcsec", "resample_to_arcsec"):
            value = getattr(self, name)
            _require_setting(is_scale(value), name, value, "a positive number or None")
            object.__setattr__(self, name, None if value is None else float(value))
        if self.resample_to_arcsec and not self.pixel_scale_arcsec:
            raise RequestError(
                "resample_to_arcsec needs the pixel scale of the images: set "
                "data.pixel_scale_arcsec, or write it into their images.yaml"
            )
        is_value_scale = isinstance(self.scale, ValueScale)
        _require_setting(is_value_scale, "scale", self.scale, "a dl.data.ValueScale")
        # NumPy's numbers become Python's, which the manifest stores.
        object.__setattr__(self, "image_size", int(size))
        object.__setattr__(self, "seed", int(seed))
        object.__setattr__(self, "validation_fraction", float(fraction))
        names = None if self.band_names is None else tuple(self.band_names)
        object.__setattr__(self, "band_names", names)
        object.__setattr__(self, "margin", crop_margin(int(size), self.fit))

    @property
    def selection(self) -> Selection:
        """Which part of a source file is its image."""
        return Selection.of(self)

    @property
    def framing(self) -> Framing:
        """Which part of a source image is kept, and with which pixels."""
        pixel_scales = self.pixel_scale_arcsec, self.resample_to_arcsec
        return Framing(self.image_size, self.fit, *pixel_scales, self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for a manifest, as in earlier versions where these suffice."""
        values = asdict(self)
        for key in SELECTION_KEYS:
            if values[key] is None and key != "band_names":
                del values[key]
        if self.scale == MIN_MAX:
            del values["scale"]
            return values
        return values | {"scale": self.scale.to_dict()}


def is_scale(value: Any) -> bool:
    """Return whether a value is a pixel scale, a positive number, or None for unknown."""
    return value is None or (is_real(value) and POSITIVE.admits(float(value)))


def _require_setting(valid: bool, name: str, value: Any, allowed: str) -> None:
    if not valid:
        raise RequestError(f"{name} must be {allowed}. Received: {name}={value!r}")
