"""Augmentations: random changes of an image, each a class with `draw` and `apply`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from deeplens_tf import registry
from deeplens_tf.augment.background import background_deviation
from deeplens_tf.augment.mirroring import mirrored, shifted, where
from deeplens_tf.augment.projections import project, require_interpolation, rotate
from deeplens_tf.augment.randomness import fold_in, normal, uniform, whole_numbers

ImageShape: TypeAlias = tuple[int, int, int]

MAX_JITTER = 1024
CHOICE, NESTED = -1, -2  # folded into keys; an augmentation's own numbers begin at 0


class Augmentation(Protocol):
    """A random change of an image; any object with these two methods works."""

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> Any:
        """Draw the random numbers of a batch from the keys of its examples, (batch,) uint64.

        Returns a tensor, or a tuple of tensors, whose first axis is the batch. `uniform`, `normal`
        and `whole_numbers` draw each example's numbers from its key.
        """

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

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return (horizontal, vertical) of each image, shape (batch, 2), bool."""
        allowed = tf.constant([self.horizontal, self.vertical])
        return (uniform(keys, (2,)) < 0.5) & allowed

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Mirror each image by its row of `draws`, (batch, 2)."""
        return mirrored(images, draws[:, 0], draws[:, 1])


@dataclass(frozen=True)
class QuarterTurn:
    """Rotation by a random multiple of 90 degrees, which keeps every pixel value."""

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the number of quarter turns, shape (batch,), int32."""
        return whole_numbers(keys, (), 4)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Rotate square images counter-clockwise by `draws` quarter turns, (batch,)."""
        images = where(draws % 2 == 1, tf.transpose(images, (0, 2, 1, 3)), images)
        return mirrored(images, draws >= 2, (draws == 1) | (draws == 2))


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

    def __post_init__(self) -> None:
        _require(0 <= self.degrees <= 180, "degrees", self.degrees, "from 0 to 180")
        require_interpolation(self.interpolation)

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the angles in radians, shape (batch,)."""
        limit = float(np.deg2rad(self.degrees))
        return uniform(keys, (), -limit, limit)

    def apply(self, images: tf.Tensor, draws: tf.Tensor, margin: int = 0) -> tf.Tensor:
        """Rotate each image by its angle, (batch,); bicubic is clipped to [0, 1].

        `margin` pixels are cut off each side of the result, which is faster than cutting it later.
        """
        rotated = rotate(images, draws, self.interpolation, margin)
        return tf.clip_by_value(rotated, 0.0, 1.0) if self.interpolation == "bicubic" else rotated


@dataclass(frozen=True)
class Crop:
    """Random crop, resized to the size of the image.

    Args:
        minimum_area: smallest fraction of the image's area that is kept.
    """

    minimum_area: float = 0.6

    def __post_init__(self) -> None:
        _require(0 < self.minimum_area <= 1, "minimum_area", self.minimum_area, "above 0, up to 1")

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the fractions of the side and the positions in x and y, 0 to 1, (batch, 3)."""
        numbers = uniform(keys, (3,))
        side = tf.sqrt(self.minimum_area + (1 - self.minimum_area) * numbers[:, :1])
        return tf.concat([side, numbers[:, 1:]], axis=1)

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

    def __post_init__(self) -> None:
        _require(0 <= self.maximum_change <= 1, "maximum_change", self.maximum_change, "in [0, 1]")

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the offsets, shape (batch,)."""
        return uniform(keys, (), -self.maximum_change, self.maximum_change)

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

    def __post_init__(self) -> None:
        _require(self.stddev >= 0, "stddev", self.stddev, "at least 0")

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the noise, of the images' shape."""
        return self.stddev * normal(keys, image_shape)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Add each image's noise, of the images' shape."""
        return tf.clip_by_value(images + draws, 0.0, 1.0)


@dataclass(frozen=True)
class BackgroundNoise:
    """Gaussian noise as strong as the background's own in each image and band, clipped to [0, 1].

    Args:
        factor: of the standard deviation that `background_deviation` estimates. Noise of the sky
            grows by sqrt(1 + factor^2).
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        _require(self.factor >= 0, "factor", self.factor, "at least 0")

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the noise in units of each image's own, of the images' shape."""
        return self.factor * normal(keys, image_shape)

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Add each image's noise, of the images' shape, times the deviation of its background."""
        deviation = background_deviation(images)[:, None, None]
        return tf.clip_by_value(images + deviation * draws, 0.0, 1.0)


@dataclass(frozen=True)
class Jitter:
    """Random shift by whole pixels, which keeps every value and its noise; reflected at the border.

    Args:
        pixels: the shifts down and to the right are uniform in ±pixels.
    """

    pixels: int = 2

    def __post_init__(self) -> None:
        valid = type(self.pixels) is int and 0 <= self.pixels <= MAX_JITTER
        _require(valid, "pixels", self.pixels, f"a whole number from 0 to {MAX_JITTER}")

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
        """Return the shifts down and to the right, shape (batch, 2), int32."""
        return whole_numbers(keys, (2,), 2 * self.pixels + 1) - self.pixels

    def apply(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Shift each image by its row of `draws`, (batch, 2)."""
        return shifted(images, draws[:, 0], draws[:, 1])


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

    def draw(self, keys: tf.Tensor, image_shape: ImageShape) -> tuple[tf.Tensor, Any]:
        """Return which images are changed, shape (batch,), and the augmentation's numbers."""
        chosen = uniform(fold_in(keys, CHOICE)) < self.probability
        if isinstance(self.augmentation, Sometimes):  # else its choice would be this one
            keys = fold_in(keys, NESTED)
        return chosen, self.augmentation.draw(keys, image_shape)

    def apply(self, images: tf.Tensor, draws: tuple[tf.Tensor, Any]) -> tf.Tensor:
        """Change the chosen images."""
        chosen, numbers = draws
        changed = self.augmentation.apply(images, numbers)
        return where(chosen, changed, images)


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
register_augmentation("background_noise", BackgroundNoise)
register_augmentation("jitter", Jitter)


def _require(valid: bool, name: str, value: Any, range_text: str) -> None:
    if not valid:
        raise ValueError(f"{name} must be {range_text}. Received: {name}={value}")
