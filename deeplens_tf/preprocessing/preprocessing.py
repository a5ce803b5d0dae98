"""What turns the pixels of a file into those that a network takes, as a model's file keeps it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.constant_bands import constant_bands, require_content
from deeplens_tf.preprocessing.framing import Framing, same_scale
from deeplens_tf.preprocessing.scaling import FIT_MODES
from deeplens_tf.preprocessing.selection import Selection
from deeplens_tf.preprocessing.value_scale import MIN_MAX, ValueScale
from deeplens_tf.terminal import counted

VERSION = WITH_SELECTION = 4  # the newest, which says which part of a file is its image
OF_DATA_SCALE = 3  # version 2 knows no scale over the data
WITH_SCALE = 2
VERSION_1_SCALING = "min-max"  # the one scale that it knows; it is written for it
MAX_SIDE, MAX_SOURCE_SIDE, MAX_BANDS, MAX_NAME = 4096, 16384, 1024, 100
MIN_IMAGE_SIDE = 8  # of an image; a smaller array is something else

RawImages: TypeAlias = NDArray | Sequence[NDArray]


@dataclass(frozen=True)
class Preprocessing:
    """The way from raw images to the images of a network.

    Attributes:
        image_size: side of the network's images in pixels.
        fit: "resize" or "crop", see `scaling.resize_and_scale`.
        bands: number of bands of an image, without those that are left out.
        scaling: the scale of the values.
        repeat: how often a grey image is repeated; 1 otherwise.
        bands_left_out: positions, from 0, of bands of the files that are left out.
        band_names: of `bands`, in their order; None if unknown.
        pixel_scale_arcsec: of the network's images; None if unknown.
        source_scale_arcsec: pixel scale of the files that the network was trained on; None if it is
            unknown or they had several.
        source_side: side, in pixels of the training files, of the square that becomes the network's
            image; None if unknown or not the same for all.
        resampled: whether images are resampled to `pixel_scale_arcsec`, then cropped; an image of
            unknown pixel scale can be used if `source_scale_arcsec` is known.
        selection: which part of a training file is its image; None if unknown.

    Raises:
        ValueError: a value that is not one of these.
    """

    image_size: int
    fit: str
    bands: int
    scaling: ValueScale = MIN_MAX
    repeat: int = 1
    bands_left_out: tuple[int, ...] = ()
    band_names: tuple[str, ...] | None = None
    pixel_scale_arcsec: float | None = None
    source_scale_arcsec: float | None = None
    source_side: int | None = None
    resampled: bool = False
    selection: Selection | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands_left_out", _tuple(self.bands_left_out))
        object.__setattr__(self, "band_names", _tuple(self.band_names))
        for name, valid in self._checks().items():
            if not valid:
                value = getattr(self, name)
                raise ValueError(f"preprocessing has no valid {name}. Received: {value!r:.100}")

    def _checks(self) -> dict[str, bool]:
        left_out, names = self.bands_left_out, self.band_names
        return {
            "image_size": _is_count(self.image_size, MAX_SIDE),
            "fit": self.fit in FIT_MODES,
            "bands": _is_count(self.bands, MAX_BANDS),
            "scaling": isinstance(self.scaling, ValueScale) and self._has_limits(),
            "repeat": _is_count(self.repeat, MAX_BANDS) and (self.repeat == 1 or self.bands == 1),
            "bands_left_out": isinstance(left_out, tuple) and _are_positions(left_out),
            "band_names": names is None or (_are_names(names) and len(names) == self.bands),
            "pixel_scale_arcsec": _is_scale(self.pixel_scale_arcsec),
            "source_scale_arcsec": _is_scale(self.source_scale_arcsec),
            "source_side": self.source_side is None or _is_count(self.source_side, MAX_SOURCE_SIDE),
            "resampled": type(self.resampled) is bool
            and (self.pixel_scale_arcsec is not None or not self.resampled),
            "selection": self.selection is None or isinstance(self.selection, Selection),
        }

    def _has_limits(self) -> bool:
        """Whether a scale over the data has its interval, or one for each band."""
        apart = self.scaling.scale_bands == "each"
        needed = 0 if self.scaling.scale_over == "image" else self.bands if apart else 1
        return len(self.scaling.limits or ()) == needed

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, bands) of the network's images."""
        return self.image_size, self.image_size, self.bands * self.repeat

    def apply(
        self, images: RawImages, *, pixel_scale_arcsec: float | None = None
    ) -> NDArray[np.float32]:
        """Turn raw images into those of the network, as the stages do for the images of a folder.

        Args:
            images: shape (n, height, width) or (n, height, width, bands), or a list of images of
                different sizes; with the bands of the training files, or without those that are
                left out.
            pixel_scale_arcsec: of these images, to resample them to the network's pixel scale;
                None if it is that of the training files.

        Returns:
            (n, image_size, image_size, bands * repeat), float32 in [0, 1].

        Raises:
            ValueError: an image that cannot be used, as `images[i]` with the reason.
        """
        how = self._for_scale(pixel_scale_arcsec)
        prepared = [how._prepared(image, f"images[{i}]") for i, image in enumerate(_listed(images))]
        return np.stack(prepared) if prepared else np.empty((0, *self.image_shape), np.float32)

    def _for_scale(self, pixel_scale_arcsec: float | None) -> "Preprocessing":
        if pixel_scale_arcsec is None:
            return self
        if self.pixel_scale_arcsec is None:
            raise ValueError(
                "pixel_scale_arcsec must be None, since that of the training images is unknown. "
                f"Received: pixel_scale_arcsec={pixel_scale_arcsec!r}"
            )
        if not _is_scale(pixel_scale_arcsec):
            raise ValueError(
                "pixel_scale_arcsec must be a positive number. "
                f"Received: pixel_scale_arcsec={pixel_scale_arcsec!r}"
            )
        return replace(self, source_scale_arcsec=float(pixel_scale_arcsec), resampled=True)

    def _prepared(self, image: Any, name: str) -> NDArray[np.float32]:
        array = np.asarray(image)
        if array.ndim == 2:
            array = array[..., np.newaxis]
        if array.ndim != 3 or not array.size or array.dtype.kind not in "fiu":
            raise ValueError(
                f"{name} must be real numbers of shape (height, width) or (height, width, bands). "
                f"Received: shape {np.shape(image)}, type {array.dtype}"
            )
        try:
            scaled = self._scaled(self._own_bands(array))
        except UnusableFile as error:
            raise ValueError(f"{name} cannot be used: {error}") from error
        return np.tile(scaled, (1, 1, self.repeat))

    def for_stated(self, found: float | None) -> "Preprocessing":
        """Return the preprocessing of an image for which this pixel scale is stated.

        Args:
            found: in arcsec; None for an image for which none is.

        Raises:
            UnusableFile: another scale than that of the training files, where that of the network's
                images, with which `apply` compares it, is unknown.
        """
        if found is None or self.pixel_scale_arcsec is None:
            found = self.framing.for_stated(found).pixel_scale_arcsec
        return replace(self, source_scale_arcsec=found)

    def nan_pixels(self, image: NDArray) -> int:
        """Return how many of the kept pixels of (height, width, bands) `apply` fills.

        Raises:
            UnusableFile: an image of other bands, or one that does not cover the field to resample.
        """
        if not self.scaling.max_nan_fraction:
            return 0
        return self.framing.without_nan(self._own_bands(image))[1]

    def _own_bands(self, image: NDArray) -> NDArray:
        found, wanted = image.shape[-1], self.bands + len(self.bands_left_out)
        if found not in (self.bands, wanted):
            named = f" ({', '.join(self.band_names)})" if self.band_names else ""
            raise UnusableFile(
                f"it has {counted(found, 'band')}, and the network takes {self.bands}{named}"
            )
        return image if found == self.bands else np.delete(image, self.bands_left_out, axis=-1)

    def _scaled(self, image: NDArray) -> NDArray[np.float32]:
        framing, target = self.framing, self.pixel_scale_arcsec
        if self.resampled and not self.source_scale_arcsec:
            raise UnusableFile(
                "its pixel scale is unknown, so it cannot be resampled: give --pixel-scale-arcsec "
                "(in Python pixel_scale_arcsec)"
            )
        image, _ = framing.without_nan(image)
        pixels = framing.kept(image)
        if framing.resample_to_arcsec is None and target and self.source_scale_arcsec:
            _require_scale(self.source_scale_arcsec * len(pixels) / self.image_size, target)
        elif framing.resample_to_arcsec is None and self.source_side:
            _require_side(len(pixels), self.source_side, self.image_size)
        require_content(pixels.shape[-1], constant_bands(pixels), ())
        first, last = framing.margin, framing.margin + self.image_size
        return framing.scaled(image)[first:last, first:last]

    @property
    def framing(self) -> Framing:
        """Which part of an image is kept, and with which pixels."""
        target = self.pixel_scale_arcsec if self.resampled else None
        return Framing(self.image_size, self.fit, self.source_scale_arcsec, target, self.scaling)

    def names_of_used(self, names: Sequence[str] | None) -> tuple[str, ...] | None:
        """Return the names of the bands that are used, from those of all bands of the files."""
        if names is None or len(names) == self.bands:
            return None if names is None else tuple(names)
        return tuple(name for i, name in enumerate(names) if i not in self.bands_left_out)

    def differences(self, other: "Preprocessing") -> list[str]:
        """Return in words how the images of `other` differ from those of this preprocessing.

        What is unknown on either side is no difference, nor are pixel scales within 2 %.
        Whether images are resized or cropped is none where both pixel scales are known.
        """
        ours, theirs = self.pixel_scale_arcsec, other.pixel_scale_arcsec
        scales_known = ours is not None and theirs is not None
        found = []
        if self.image_size != other.image_size:
            found.append(f"image_size {other.image_size} instead of {self.image_size}")
        if self.fit != other.fit and not scales_known:
            found.append(f"fit {other.fit} instead of {self.fit}")
        if not self.scaling.gives_same_values(other.scaling):
            found.append(f"scaling {other.scaling} instead of {self.scaling}")
        if self.image_shape[2] != other.image_shape[2]:
            found.append(
                f"{counted(other.image_shape[2], 'band')} instead of {self.image_shape[2]}"
            )
        if self.has_other_bands(other):
            bands = (", ".join(each.band_names or ()) for each in (other, self))
            found.append("bands {} instead of {}".format(*bands))
        if ours and theirs and not same_scale(ours, theirs):
            found.append(f"pixels of {theirs:.4g} instead of {ours:.4g} arcsec")
        if not scales_known and self.has_other_side(other):
            found.append(
                f"squares of {other.source_side} instead of {self.source_side} pixels that are "
                f"resized to {self.image_size}, without a known pixel scale"
            )
        return found

    def has_other_bands(self, other: "Preprocessing") -> bool:
        """Return whether both know the names of their bands, and these differ."""
        names = self.band_names, other.band_names
        return all(names) and names[0] != names[1]

    def has_other_side(self, other: "Preprocessing") -> bool:
        """Return whether squares of different sides become images of one size."""
        sides = self.source_side, other.source_side
        known = None not in sides and self.image_size == other.image_size
        return known and not same_scale(*map(float, sides))  # type: ignore[arg-type]

    def completed_by(self, other: "Preprocessing") -> "Preprocessing":
        """Return this preprocessing with what it does not know, if `other` does.

        It is about the names of the bands, the pixel scale, and which part of a file is its image.
        """
        names = other.band_names if other.bands == self.bands else None
        return replace(
            self,
            band_names=self.band_names or names,
            pixel_scale_arcsec=self.pixel_scale_arcsec or other.pixel_scale_arcsec,
            selection=self.selection or other.selection,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a file."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.selection is not None:
            values |= {"version": WITH_SELECTION, "selection": self.selection.to_dict()}
            return {**values, "scaling": self.scaling.to_dict()}
        del values["selection"]  # as earlier versions wrote it
        if self.scaling == MIN_MAX:
            return {"version": 1, **values, "scaling": VERSION_1_SCALING}
        version = OF_DATA_SCALE if self.scaling.scale_over == "data" else WITH_SCALE
        return {"version": version, **values, "scaling": self.scaling.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> "Preprocessing":
        """Return the preprocessing that `to_dict` described.

        Raises:
            ValueError: anything else, also one of a later version.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"preprocessing must be a mapping. Received: {values!r:.100}")
        version = values.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise ValueError(
                f"preprocessing is of version {version!r:.20}, and this deeplens_tf reads versions "
                f"1 to {VERSION}"
            )
        given = {key: value for key, value in values.items() if key != "version"}
        known = {each.name for each in fields(cls)}
        if version < WITH_SELECTION:
            known.remove("selection")
        if set(given) != known:
            odd = sorted(map(str, set(given) ^ known))
            raise ValueError(f"preprocessing has an unknown or a missing key, {odd[0]:.40}")
        changes: dict[str, Any] = {"scaling": _scaling(given["scaling"], version)}
        if "selection" in given:
            changes["selection"] = Selection.from_dict(given["selection"])
        return cls(**given | changes)


def _scaling(value: Any, version: int) -> ValueScale:
    if version >= WITH_SCALE:
        return ValueScale.from_dict(value)
    if value != VERSION_1_SCALING:
        raise ValueError(f"preprocessing has no valid scaling. Received: {value!r:.100}")
    return MIN_MAX


def _require_scale(found: float, wanted: float) -> None:
    if not same_scale(found, wanted):
        raise UnusableFile(
            f"its pixels would be of {found:.4g} arcsec, and those of the training images are of "
            f"{wanted:.4g} arcsec: --resample resamples it (in Python resample=True, and of arrays "
            "pixel_scale_arcsec)"
        )


def _require_side(found: int, wanted: int, image_size: int) -> None:
    if not same_scale(found, wanted):
        raise UnusableFile(
            f"its square of {found} pixels would be resized to {image_size}, and those of the "
            f"training images had {wanted}: its pixel scale would be another"
        )


def _listed(images: Any) -> Sequence[Any]:
    """Return the images one by one; an array of shape (n, height, width) is n grey images."""
    if isinstance(images, list | tuple):
        return images
    array = np.asarray(images)
    # A single image with its bands last would pass for one narrow grey image per row.
    is_single = array.ndim == 3 and array.shape[-1] < MIN_IMAGE_SIDE < array.shape[0]
    if array.ndim not in (3, 4) or is_single:
        raise ValueError(
            "images must have the shape (n, height, width) or (n, height, width, bands), or be a "
            f"list of images, of one image [image]. Received: shape {array.shape}"
        )
    return list(array)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_count(value: Any, largest: int) -> bool:
    return type(value) is int and 1 <= value <= largest


def _are_positions(values: tuple[Any, ...]) -> bool:
    inside = all(type(value) is int and 0 <= value < MAX_BANDS for value in values)
    return inside and sorted(set(values)) == list(values)


def _are_names(names: Any) -> bool:
    texts = all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in names)
    return isinstance(names, tuple) and texts and len(set(names)) == len(names)


def _is_scale(value: Any) -> bool:
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    return value is None or (is_number and 0 < value < math.inf)
