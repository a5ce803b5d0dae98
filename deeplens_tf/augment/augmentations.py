"""Augmentations: random changes of an image, each a class with `draw`, `apply` and `dtype`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from deeplens_tf import registry
from deeplens_tf.augment.projections import project, require_interpolation, rotate
from deeplens_tf.augment.randomness import fold_in

ImageShape: TypeAlias = tuple[int, int, int]


class Augmentation(Protocol):
    """A random change of an image; any object with these two methods and this attribute works."""

    @property
    def dtype(self) -> Any:
        """Type of the random numbers, such as "float32"; a tuple for several tensors."""

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> Any:
        """Draw the random numbers of one example from a stateless key, shape (2,)."""

    def apply(self, images: tf.Tensor, draws: Any) -> tf.Tensor:
        """Change a batch (batch, height, width, bands) by the numbers of its examples."""


@dataclass(frozen=True)
class Flip:
    """Random mirroring along each of two axes.

    Args:
        horizontal: whether left and right may be exchanged.
        vertical: whether top and bottom may be exchanged.
    """

    horizontal: bool = True
    vertical: bool = True
    dtype: ClassVar[str] = "bool"

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return (horizontal, vertical), shape (2,)."""
        allowed = tf.constant([self.horizontal, self.vertical])
        return (tf.random.stateless_uniform((2,), key) < 0.5) & allowed

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Mirror each image by its row of `draws`, (batch, 2)."""
        for axis, chosen in ((2, draws[:, 0]), (1, draws[:, 1])):
            images = tf.where(chosen[:, None, None, None], tf.reverse(images, [axis]), images)
        return images


@dataclass(frozen=True)
class QuarterTurn:
    """Rotation by a random multiple of 90 degrees, which keeps every pixel value."""

    dtype: ClassVar[str] = "int32"

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the number of quarter turns, shape ()."""
        return tf.random.stateless_uniform((), key, 0, 4, tf.int32)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Rotate square images counter-clockwise by `draws` quarter turns, (batch,)."""
        turns = draws[:, None, None, None]
        images = tf.where(turns >= 2, tf.reverse(images, [1, 2]), images)
        quarter = tf.reverse(tf.transpose(images, (0, 2, 1, 3)), [1])
        return tf.where(turns % 2 == 1, quarter, images)


@dataclass(frozen=True)
class Rotation:
    """Rotation by a random angle, reflected at the border.

    Args:
        degrees: largest angle; the angle is uniform in ±degrees.
        interpolation: "bilinear", as the original, or "bicubic", which smooths less and takes
            longer; see `rotate`.
    """

    degrees: float = 180.0
    interpolation: str = "bilinear"
    dtype: ClassVar[str] = "float32"

    def __post_init__(self) -> None:
        _require(0 <= self.degrees <= 180, "degrees", self.degrees, "from 0 to 180")
        require_interpolation(self.interpolation)

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the angle in radians, shape ()."""
        limit = np.deg2rad(self.degrees)
        return tf.random.stateless_uniform((), key, -limit, limit)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Rotate each image by its angle, (batch,); bicubic is clipped to [0, 1]."""
        rotated = rotate(images, draws, self.interpolation)
        return tf.clip_by_value(rotated, 0.0, 1.0) if self.interpolation == "bicubic" else rotated


@dataclass(frozen=True)
class Crop:
    """Random crop, resized to the size of the image.

    Args:
        minimum_area: smallest fraction of the image's area that is kept.
    """

    minimum_area: float = 0.6
    dtype: ClassVar[str] = "float32"

    def __post_init__(self) -> None:
        _require(0 < self.minimum_area <= 1, "minimum_area", self.minimum_area, "above 0, up to 1")

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the fraction of the side and the position in x and y, from 0 to 1, shape (3,)."""
        numbers = tf.random.stateless_uniform((3,), key)
        side = tf.sqrt(self.minimum_area + (1 - self.minimum_area) * numbers[0])
        return tf.stack([side, numbers[1], numbers[2]])

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Crop each image by its row of `draws`, (batch, 3)."""
        side, zero = draws[:, 0], tf.zeros_like(draws[:, 0])
        left = (1 - side) * draws[:, 1] * (images.shape[2] - 1.0)
        top = (1 - side) * draws[:, 2] * (images.shape[1] - 1.0)
        return project(images, side, zero, left, zero, side, top)


@dataclass(frozen=True)
class Brightness:
    """Random offset of all pixels, clipped to [0, 1].

    Args:
        maximum_change: the offset is uniform in ±maximum_change.
    """

    maximum_change: float = 0.2
    dtype: ClassVar[str] = "float32"

    def __post_init__(self) -> None:
        _require(0 <= self.maximum_change <= 1, "maximum_change", self.maximum_change, "in [0, 1]")

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the offset, shape ()."""
        return tf.random.stateless_uniform((), key, -self.maximum_change, self.maximum_change)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Add each image's offset, (batch,)."""
        return tf.clip_by_value(images + draws[:, None, None, None], 0.0, 1.0)


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise in every pixel, clipped to [0, 1].

    Args:
        stddev: standard deviation, in units of the image's range.
    """

    stddev: float = 0.1
    dtype: ClassVar[str] = "float32"

    def __post_init__(self) -> None:
        _require(self.stddev >= 0, "stddev", self.stddev, "at least 0")

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the noise, of the image's shape."""
        return tf.random.stateless_normal(image_shape, key, stddev=self.stddev)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Add each image's noise, of the images' shape."""
        return tf.clip_by_value(images + draws, 0.0, 1.0)


@dataclass(frozen=True)
class Sometimes:
    """An augmentation that each view has with a probability.

    Args:
        augmentation: changes the chosen images.
        probability: of an image to be changed, 0 to 1.
    """

    augmentation: Augmentation
    probability: float

    def __post_init__(self) -> None:
        _require(0 <= self.probability <= 1, "probability", self.probability, "in [0, 1]")

    @property
    def dtype(self) -> tuple[str, Any]:
        """Types of the choice and of the augmentation's numbers."""
        return "bool", self.augmentation.dtype

    def draw(self, key: tf.Tensor, image_shape: ImageShape) -> tuple[tf.Tensor, Any]:
        """Return whether the image is changed, shape (), and the augmentation's numbers."""
        chosen = tf.random.stateless_uniform((), fold_in(key, 0)) < self.probability
        return chosen, self.augmentation.draw(key, image_shape)

    def apply(self, images: tf.Tensor, draws: tuple[tf.Tensor, Any]) -> tf.Tensor:
        """Change the chosen images."""
        chosen, numbers = draws
        changed = self.augmentation.apply(images, numbers)
        return tf.where(chosen[:, None, None, None], changed, images)


def register_augmentation(name: str, make: Callable[..., Augmentation]) -> None:
    """Make an augmentation known to configurations, to `Augment` and to `--help`.

    Args:
        name: in `augment.views` of a configuration; an identifier that is not taken.
        make: class or function of settings, which returns an augmentation. A setting has a type
            hint, such as `float` or `Annotated[float, Bounds(low=1)]`, and a default or none; a
            configuration sets it under `augment.options.<name>`.

    Raises:
        ValueError: a name that is taken or no identifier, or a setting without a type hint.

    Example:
        >>> register_augmentation("zoom", Zoom)
        >>> augment = Augment(["flip", "zoom"])
    """
    registry.augmentations.register(name, make)


AUGMENTATIONS = tuple(registry.augmentations.built_in)
register_augmentation("flip", Flip)
register_augmentation("rot90", QuarterTurn)
register_augmentation("rotation", Rotation)
register_augmentation("crop", Crop)
register_augmentation("brightness", Brightness)
register_augmentation("gaussian_noise", GaussianNoise)


def _require(valid: bool, name: str, value: Any, range_text: str) -> None:
    if not valid:
        raise ValueError(f"{name} must be {range_text}. Received: {name}={value}")
