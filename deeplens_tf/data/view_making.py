"""From images to their views: the configured augmentations, and the margin that they need.

Views are made from the image with its margin, if the data have one, and cut to the image's size at
the end: what a rotation moves into view is then the sky around the image, not a reflection.
"""

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass

import tensorflow as tf

from deeplens_tf.augment import (
    Augment,
    Augmentation,
    BackgroundNoise,
    Brightness,
    Crop,
    Flip,
    GaussianNoise,
    Jitter,
    QuarterTurn,
    Rotation,
    Sometimes,
    patch_orders,
)
from deeplens_tf.config import AugmentConfig
from deeplens_tf.data.image_data import Example, ImageData
from deeplens_tf.errors import RequestError
from deeplens_tf.registry import augmentations
from deeplens_tf.terminal import print_lines

# Augmentations that move nothing into an image from outside of it.
STAY_INSIDE = (Flip, QuarterTurn, Brightness, GaussianNoise, BackgroundNoise)
LOOK_OUTSIDE = (Rotation, Crop, Jitter)


def build_augment(config: AugmentConfig) -> Augment:
    """Return the configured augmentations.

    Raises:
        RequestError: an option or a probability of an augmentation that is in no view, or a wrong
            option.
    """
    made = {name: _augmentation(config, name) for name in (*config.views, *(config.view_2 or ()))}
    for key, section in (("options", config.options), ("probability", config.probability)):
        for name in section.keys() - made.keys():
            raise RequestError(
                f"augment.{key}.{name}: no view has {name!r}, only {', '.join(made)}"
            )
    second = None if config.view_2 is None else [made[name] for name in config.view_2]
    return Augment([made[name] for name in config.views], second)


def _augmentation(config: AugmentConfig, name: str) -> Augmentation:
    entry, section = augmentations.entry(name), getattr(config, name, None)
    settings, given = vars(section) if is_dataclass(section) else {}, config.options.get(name, {})
    for key in settings.keys() & given.keys():
        raise RequestError(f"augment.options.{name}.{key}: set augment.{name}.{key} instead")
    options = entry.checked(given, f"augment.options.{name}.", settings)
    try:
        augmentation = entry.build(**settings, **options)
    except ValueError as error:
        raise RequestError(f"augment.views: {name} cannot be made: {error}") from error
    probability = config.probability.get(name, 1.0)
    return augmentation if probability == 1 else Sometimes(augmentation, probability)


def require_one_list(augment: Augment) -> None:
    """Refuse augmentations of a second view where only one view is made.

    Raises:
        RequestError: there are some.
    """
    if augment.of_view_2 is not augment.augmentations:
        raise RequestError(
            "augment.view_2 must be null (view_2=None in Python) where one view is made of an "
            "image: in inpainting and in fine-tuning"
        )


def require_two_views(patches: int, masked_views: bool) -> None:
    """Refuse pairs of images of one object where only one view is made.

    Raises:
        RequestError: patches without masked views replace the second view.
    """
    if patches and not masked_views:
        raise RequestError(
            'pretrain.positives must be image (positives="image" in Python) where one view is made '
            "of an image, as in inpainting. Received: object"
        )


def report_missing_margin(data: ImageData, augment: Augment) -> None:
    """Print one line if a view would show the surroundings that the data lack."""
    if data.lacks_margin and any(isinstance(each, LOOK_OUTSIDE) for each in _all(augment)):
        print_lines(
            f"{data.name}: prepared by an earlier version, so views are made without a margin and "
            "show reflections at their border; prepare the images again for views of the sky there"
        )


def view_margin(data: ImageData, augment: Augment) -> int:
    """Return the margin with which views are made: none where no view shows what is outside."""
    # Not `isinstance`: a subclass may look outside.
    return 0 if all(type(each) in STAY_INSIDE for each in _all(augment)) else data.margin


def views_of(
    data: ImageData, augment: Augment, patches: int, masked_views: bool
) -> Callable[[Example, Example, tf.Tensor], Example]:
    """Return the function that makes views of batches of examples in an epoch.

    It takes the examples of the first view, those of the second view, which may be the same, and
    the epoch. `image` and `label` of its result are those of the first.
    """
    margin = view_margin(data, augment)
    one_view = patches > 0 and not masked_views
    if one_view:
        require_one_list(augment)

    def view(examples: Example, epoch: tf.Tensor, number: int) -> tf.Tensor:
        source = examples["image_with_margin" if margin else "image"]
        return augment.view(source, examples["index"], data.seed, epoch, number, margin)

    def views(first: Example, second: Example, epoch: tf.Tensor) -> Example:
        result = {"image": first["image"]} | ({"label": first["label"]} if data.classes else {})
        if one_view:
            order = patch_orders(first["index"], data.seed, epoch, patches)
            return result | {"view_1": view(first, epoch, 1), "patch_order": order}
        for number, examples in ((1, first), (2, second)):
            result[f"view_{number}"] = view(examples, epoch, number)
            if masked_views:
                order = patch_orders(examples["index"], data.seed, epoch, patches, number)
                result[f"patch_order_{number}"] = order
        return result

    return views


def _all(augment: Augment) -> Iterator[Augmentation]:
    """Return the augmentations of both views, those with a probability without it."""
    for augmentation in (*augment.augmentations, *augment.of_view_2):
        while isinstance(augmentation, Sometimes):
            augmentation = augmentation.augmentation
        yield augmentation
