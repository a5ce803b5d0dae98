"""From an image to its views: augmentations in sequence.

The random numbers of each example follow from (seed, epoch, index, view) only. Views are therefore
new in each epoch, the same in each run, and independent of the batch in which an example is.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplens_tf import registry
from deeplens_tf.augment.augmentations import Augmentation, ImageShape, Rotation
from deeplens_tf.augment.randomness import MASK, MASK_OF_VIEW, fold_in, key_of, orders


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
        self,
        images: tf.Tensor,
        indices: tf.Tensor,
        seed: int,
        epoch: int | tf.Tensor,
        margin: int = 0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Make two independent views of each image.

        Args:
            images: shape (batch, height, width, bands), float32 in [0, 1].
            indices: index of each image in its data set, shape (batch,), int64.
            seed: of the run.
            epoch: of the run; each epoch has other views.
            margin: pixels that are cut off each side of the views at the end.

        Returns:
            Both views, each of the images' shape apart from the margin.
        """
        options = (indices, seed, epoch)
        return self.view(images, *options, 1, margin), self.view(images, *options, 2, margin)

    def view(
        self,
        images: tf.Tensor,
        indices: tf.Tensor,
        seed: int,
        epoch: int | tf.Tensor,
        number: int = 1,
        margin: int = 0,
    ) -> tf.Tensor:
        """Make view `number` of each image; the other arguments are those of `two_views`."""
        draws = self.draw(indices, seed, epoch, number, images.shape[1:])
        return self.apply(images, draws, number, margin)

    def draw(
        self,
        indices: tf.Tensor,
        seed: int | tf.Tensor,
        epoch: int | tf.Tensor,
        number: int,
        image_shape: ImageShape,
    ) -> tuple[tf.Tensor, ...]:
        """Draw the random numbers of a batch, for each augmentation of view `number`.

        Raises:
            ValueError: an augmentation drew numbers whose first axis is not the batch.
        """
        keys = fold_in(key_of(seed, epoch, number), indices)  # (batch,)
        return tuple(
            _of_the_batch(augmentation, augmentation.draw(fold_in(keys, i), image_shape), keys)
            for i, augmentation in enumerate(self.of_view(number))
        )

    def apply(
        self, images: tf.Tensor, draws: Sequence[Any], number: int = 1, margin: int = 0
    ) -> tf.Tensor:
        """Apply the augmentations of a view in order to a batch (batch, height, width, bands).

        Raises:
            ValueError: an augmentation changed the shape.
        """
        chosen = self.of_view(number)
        for i, (augmentation, numbers) in enumerate(zip(chosen, draws, strict=True), 1):
            if (
                i == len(chosen) and type(augmentation) is Rotation
            ):  # a subclass may not take a margin
                return augmentation.apply(images, numbers, margin)
            changed = augmentation.apply(images, numbers)
            if not changed.shape.is_compatible_with(images.shape):
                raise ValueError(
                    f"apply must keep the shape of the images, {images.shape}. "
                    f"Received: {changed.shape} from {type(augmentation).__name__}"
                )
            images = changed
        return without_margin(images, margin)


def patch_orders(
    indices: tf.Tensor,
    seed: int | tf.Tensor,
    epoch: int | tf.Tensor,
    patches: int,
    view: int | None = None,
) -> tf.Tensor:
    """Draw a random order of each image's patches, of which a mask drops the last ones.

    Args:
        indices: index of each image in its data set, shape (batch,), int64.
        seed: of the run.
        epoch: of the run; each epoch has other orders.
        patches: patches per image.
        view: number of the view that is masked, 1 or 2; each has other orders. None for inpainting.

    Returns:
        A permutation of the patches of each image, shape (batch, patches), int32.
    """
    purpose = MASK if view is None else MASK_OF_VIEW[view]
    return orders(fold_in(key_of(seed, epoch, purpose), indices), patches)


def without_margin(images: Any, margin: int) -> Any:
    """Cut `margin` pixels off each side of images (..., height, width, bands)."""
    return images[..., margin:-margin, margin:-margin, :] if margin else images


def _made(name: str, augmentations: Sequence[str | Augmentation]) -> tuple[Augmentation, ...]:
    if not isinstance(augmentations, list | tuple):  # a set has no order
        raise ValueError(f"{name} must be a list. Received: {augmentations!r}")
    return tuple(map(_by_name, augmentations))


def _by_name(augmentation: str | Augmentation) -> Augmentation:
    known = registry.augmentations
    if isinstance(augmentation, str):
        if known.admits(augmentation):
            return known.entry(augmentation).build()
    elif not isinstance(augmentation, type) and _draws(augmentation):
        return augmentation
    raise ValueError(
        f"augmentations must be names ({', '.join(known.names)}), or objects with draw and apply. "
        f"Received: {augmentation!r}"
    )


def _draws(augmentation: Augmentation) -> bool:
    if hasattr(augmentation, "dtype"):
        raise ValueError(
            "augmentations must have no dtype, as those that drew for one image had it: draw gets "
            "the keys of a batch and returns numbers whose first axis is the batch. "
            f"Received: {augmentation!r}"
        )
    return hasattr(augmentation, "draw") and hasattr(augmentation, "apply")


def _of_the_batch(augmentation: Augmentation, draws: Any, keys: tf.Tensor) -> Any:
    """Return the draws, of which the first axis must be as long as the keys."""
    rule = (
        "draw must return numbers whose first axis is the batch, as uniform(keys, shape) does, "
        f"{type(augmentation).__name__} does not"
    )

    def checked(numbers: tf.Tensor) -> tf.Tensor:
        numbers = tf.convert_to_tensor(numbers)
        if not numbers.shape[:1].is_compatible_with(keys.shape):
            raise ValueError(f"{rule}. Received: shape {numbers.shape} for a batch {keys.shape}")
        length = tf.shape(numbers)[:1]
        with tf.control_dependencies([tf.debugging.assert_equal(length, tf.shape(keys), rule)]):
            return tf.identity(numbers)

    return tf.nest.map_structure(checked, draws)
