"""Augmentations: how a view is made from an image. Stateless, batched and pure."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(
            (
                *("AUGMENTATIONS", "Augmentation", "BackgroundNoise", "Brightness", "Crop", "Flip"),
                *(
                    "GaussianNoise",
                    "Jitter",
                    "QuarterTurn",
                    "Rotation",
                    "Sometimes",
                    "register_augmentation",
                ),
            ),
            "augmentations",
        ),
        **dict.fromkeys(("Augment", "patch_orders", "without_margin"), "views"),
        **dict.fromkeys(("INTERPOLATIONS", "rotate"), "projections"),
        **dict.fromkeys(("fold_in", "normal", "uniform", "whole_numbers"), "randomness"),
    },
)
