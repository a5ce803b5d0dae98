"""Augmentations: how a view is made from an image. Stateless, batched and pure.

The random numbers of each example follow from (seed, epoch, index, view) only. Views are therefore
new in each epoch, the same in each run, and independent of the batch in which an example is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from deeplens_tf import registry

ImageShape: TypeAlias = tuple[int, int, int]
INTERPOLATIONS = ("bilinear", "bicubic")
MASK = 0  # in place of the number of a view, which starts at 1


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
        _require_interpolation(self.interpolation)

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
        return _project(images, side, zero, left, zero, side, top)


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
        chosen = tf.random.stateless_uniform((), _fold_in(key, 0)) < self.probability
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


class Augment:
    """Augmentations in sequence, from an image to its views.

    Args:
        augmentations: names such as "flip", with their default settings, or objects such as
            `Rotation(degrees=30)`, `Sometimes(GaussianNoise(), 0.5)` or one of your own; none of
            them for views that equal the image.
        view_2: those of the second view; None for the same as the first view's.

    Raises:
        ValueError: not a sequence of such names and objects.

    Example:
        >>> augment = Augment(["flip", Rotation(degrees=30)])
        >>> view_1, view_2 = augment.two_views(images, indices, seed=0, epoch=0)
    """

    def __init__(
        self,
        augmentations: Sequence[str | Augmentation] = (),
        view_2: Sequence[str | Augmentation] | None = None,
    ) -> None:
        self.augmentations = _made("augmentations", augmentations)
        self.of_view_2 = self.augmentations if view_2 is None else _made("view_2", view_2)

    def of_view(self, number: int) -> tuple[Augmentation, ...]:
        """Return the augmentations of view `number`, 1 or 2."""
        return self.of_view_2 if number == 2 else self.augmentations

    def two_views(
        self, images: tf.Tensor, indices: tf.Tensor, seed: int, epoch: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Make two independent views of each image.

        Args:
            images: shape (batch, height, width, bands), float32 in [0, 1].
            indices: index of each image in its data set, shape (batch,), int64.
            seed: of the run.
            epoch: of the run; each epoch has other views.

        Returns:
            Both views, each of the images' shape.
        """
        view_1, view_2 = (self.view(images, indices, seed, epoch, number) for number in (1, 2))
        return view_1, view_2

    def view(
        self,
        images: tf.Tensor,
        indices: tf.Tensor,
        seed: int,
        epoch: int | tf.Tensor,
        number: int = 1,
    ) -> tf.Tensor:
        """Make view `number` of each image; the other arguments are those of `two_views`."""
        draws = self.draw(indices, seed, epoch, number, images.shape[1:])
        return self.apply(images, draws, number)

    def draw(
        self,
        indices: tf.Tensor,
        seed: int | tf.Tensor,
        epoch: int | tf.Tensor,
        number: int,
        image_shape: ImageShape,
    ) -> tuple[tf.Tensor, ...]:
        """Draw the random numbers of a batch, for each augmentation of view `number`."""
        chosen = self.of_view(number)
        if not chosen:
            return ()

        def draw_one(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            key = _key(index, seed, epoch, number)
            return tuple(
                augmentation.draw(_fold_in(key, i), image_shape)
                for i, augmentation in enumerate(chosen)
            )

        types = tuple(augmentation.dtype for augmentation in chosen)
        signature = tf.nest.map_structure(lambda dtype: tf.TensorSpec(None, dtype), types)
        return tf.map_fn(draw_one, tf.cast(indices, tf.int64), fn_output_signature=signature)

    def apply(self, images: tf.Tensor, draws: Sequence[Any], number: int = 1) -> tf.Tensor:
        """Apply the augmentations of a view in order to a batch (batch, height, width, bands).

        Raises:
            ValueError: an augmentation changed the shape.
        """
        for augmentation, numbers in zip(self.of_view(number), draws, strict=True):
            changed = augmentation.apply(images, numbers)
            if not changed.shape.is_compatible_with(images.shape):
                raise ValueError(
                    f"apply must keep the shape of the images, {images.shape}. "
                    f"Received: {changed.shape} from {type(augmentation).__name__}"
                )
            images = changed
        return images


def patch_orders(
    indices: tf.Tensor, seed: int | tf.Tensor, epoch: int | tf.Tensor, patches: int
) -> tf.Tensor:
    """Draw a random order of each image's patches, of which a mask drops the last ones.

    Args:
        indices: index of each image in its data set, shape (batch,), int64.
        seed: of the run.
        epoch: of the run; each epoch has other orders.
        patches: patches per image.

    Returns:
        A permutation of the patches of each image, shape (batch, patches), int32.
    """

    def order(index: tf.Tensor) -> tf.Tensor:
        return tf.argsort(tf.random.stateless_uniform((patches,), _key(index, seed, epoch, MASK)))

    signature = tf.TensorSpec((patches,), tf.int32)
    return tf.map_fn(order, tf.cast(indices, tf.int64), fn_output_signature=signature)


def without_margin(images: Any, margin: int) -> Any:
    """Cut `margin` pixels off each side of images (..., height, width, bands)."""
    return images[..., margin:-margin, margin:-margin, :] if margin else images


def rotate(images: tf.Tensor, angles_rad: tf.Tensor, interpolation: str = "bilinear") -> tf.Tensor:
    """Rotate each image about its centre, reflected at the border.

    Args:
        images: shape (batch, height, width, bands).
        angles_rad: counter-clockwise on a picture whose rows run downwards, shape (batch,).
        interpolation: "bilinear", or "bicubic" for the cubic convolution of Keys (1981) with
            a = -1/2, which may exceed the range of the images.

    Returns:
        The rotated images, of the same shape.

    Raises:
        ValueError: an unknown interpolation.
    """
    _require_interpolation(interpolation)
    cosine, sine = tf.cos(angles_rad), tf.sin(angles_rad)
    width, height = images.shape[2] - 1.0, images.shape[1] - 1.0
    # The output pixel (x, y) is read at the input's (a x + b y + c, d x + e y + f).
    c = (width - (cosine * width - sine * height)) / 2
    f = (height - (sine * width + cosine * height)) / 2
    project = _project if interpolation == "bilinear" else _project_bicubic
    return project(images, cosine, -sine, c, sine, cosine, f)


def _project(images: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
    zero = tf.zeros_like(rows[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )


def _project_bicubic(images: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
    """Read each output pixel from the 4 x 4 pixels around its place in the input."""
    height, width, bands = images.shape[1:]
    a, b, c, d, e, f = (row[:, None, None] for row in rows)  # (batch, 1, 1)
    y, x = tf.range(height, dtype=tf.float32)[:, None], tf.range(width, dtype=tf.float32)
    columns, of_column = _cubic_taps(a * x + b * y + c, width)  # 4 of (batch, height, width)
    lines, of_line = _cubic_taps(d * x + e * y + f, height)
    pixels = tf.reshape(images, (-1, height * width, bands))
    return tf.add_n(
        [
            tf.gather(pixels, line * width + column, batch_dims=1)
            * tf.cast(u * v, images.dtype)[..., None]
            for line, u in zip(lines, of_line, strict=True)
            for column, v in zip(columns, of_column, strict=True)
        ]
    )


def _cubic_taps(places: tf.Tensor, length: int) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Return the indices of the four pixels around each place on an axis, and their weights.

    The weights are those of Keys, "Cubic convolution interpolation for digital image processing",
    IEEE Trans. ASSP 29 (1981) 1153, with a = -1/2. Beyond the ends the pixels are reflected.
    """
    first = tf.floor(places)
    t = places - first  # in [0, 1)
    weights = [
        ((-t + 2) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((-3 * t + 4) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ]
    indices = [(tf.cast(first, tf.int32) + step) % (2 * length) for step in (-1, 0, 1, 2)]
    return [tf.minimum(index, 2 * length - 1 - index) for index in indices], weights


def _key(index: tf.Tensor, seed: int | tf.Tensor, epoch: int | tf.Tensor, number: int) -> tf.Tensor:
    """Return the key from which all random numbers of one view of one image follow."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(number, tf.int64)])
    for word in (epoch, index):
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(word, tf.int64))
    return key


def _fold_in(key: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(key, tf.constant(number, tf.int64))


def _made(name: str, augmentations: Sequence[str | Augmentation]) -> tuple[Augmentation, ...]:
    if isinstance(augmentations, str):
        raise ValueError(f"{name} must be a list. Received: {augmentations!r}")
    return tuple(map(_by_name, augmentations))


def _by_name(augmentation: str | Augmentation) -> Augmentation:
    known = registry.augmentations
    if isinstance(augmentation, str):
        if known.admits(augmentation):
            return known.entry(augmentation).build()
    elif not isinstance(augmentation, type) and all(
        hasattr(augmentation, part) for part in ("draw", "apply", "dtype")
    ):
        return augmentation
    raise ValueError(
        f"augmentations must be names ({', '.join(known.names)}), or objects with draw, "
        f"apply and dtype. Received: {augmentation!r}"
    )


def _require_interpolation(interpolation: Any) -> None:
    known = interpolation in INTERPOLATIONS
    _require(known, "interpolation", interpolation, " or ".join(INTERPOLATIONS))


def _require(valid: bool, name: str, value: Any, range_text: str) -> None:
    if not valid:
        raise ValueError(f"{name} must be {range_text}. Received: {name}={value}")
