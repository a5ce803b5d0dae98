"""From an image to its views: augmentations in sequence.

The random numbers of each example follow from (seed, epoch, index, view) only. Views are therefore
new in each epoch, the same in each run, and independent of the batch in which an example is.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplens_tf import registry
from deeplens_tf.augment.augmentations import Augmentation, ImageShape
from deeplens_tf.augment.randomness import fold_in, key_of

MASK = 0  # in place of the number of a view, which starts at 1


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
            key = key_of(index, seed, epoch, number)
            return tuple(
                augmentation.draw(fold_in(key, i), image_shape)
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
        return tf.argsort(tf.random.stateless_uniform((patches,), key_of(index, seed, epoch, MASK)))

    signature = tf.TensorSpec((patches,), tf.int32)
    return tf.map_fn(order, tf.cast(indices, tf.int64), fn_output_signature=signature)


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
    elif not isinstance(augmentation, type) and all(
        hasattr(augmentation, part) for part in ("draw", "apply", "dtype")
    ):
        return augmentation
    raise ValueError(
        f"augmentations must be names ({', '.join(known.names)}), or objects with draw, "
        f"apply and dtype. Received: {augmentation!r}"
    )
