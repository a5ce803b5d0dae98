"""The weights of the classes in the loss of a classification, where some are rare."""

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.config import FinetuneConfig
from deeplens_tf.errors import RequestError
from deeplens_tf.terminal import counted, print_lines

RARE = 0.2  # of an equal share; classes are balanced automatically if the rarest has less


def require_classification(config: FinetuneConfig) -> None:
    """Refuse class weights for a regression, which has none.

    Raises:
        RequestError: `finetune.class_weight` is balanced.
    """
    if config.class_weight == "balanced" and config.head != "classification":
        raise RequestError(
            "finetune.class_weight balanced: a regression has no classes to be weighted: set "
            "finetune.class_weight=auto"
        )


def balanced_weights(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return n / (K n_c) for each class, as scikit-learn's `compute_class_weight("balanced")` does.

    Args:
        counts: labels of each class, shape (classes,).

    Returns:
        Shape (classes,); the mean over all labels is 1. A class without labels, which does not
        count as one of the K, has 1.
    """
    present = counts > 0
    weights = np.ones(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def class_weights(
    config: FinetuneConfig, labels: NDArray[np.integer], names: tuple[str, ...]
) -> tuple[float, ...] | None:
    """Return the configured weights of the classes, and print them; None for equal ones.

    Args:
        config: of the fine-tuning.
        labels: of the images that are trained on, shape (images,).
        names: of the classes; none for a regression.
    """
    counts = np.bincount(labels, minlength=len(names)) if names else np.zeros(0, int)
    if not counts.any() or not _are_wanted(config, counts):
        return None
    weights = balanced_weights(counts)
    listed = ", ".join(
        f"{name} {weight:.3g} ({counted(count, 'label')})"
        for name, weight, count in zip(names, weights, counts, strict=True)
    )
    print_lines(f"class weights in the loss: {listed}; predictions are corrected for them")
    return tuple(weights.tolist())


def _are_wanted(config: FinetuneConfig, counts: NDArray[np.integer]) -> bool:
    if config.class_weight != "auto":
        return config.class_weight == "balanced"
    present = counts[counts > 0]
    return bool(present.min() * len(present) < RARE * present.sum())
