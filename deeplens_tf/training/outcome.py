"""What is said of a fine-tuned model that shows little or nothing on the validation images."""

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.config import FROM_SCRATCH, FinetuneConfig
from deeplens_tf.data.prepared_data import PreparedData
from deeplens_tf.data.targets import target_values
from deeplens_tf.metrics.class_intervals import Counts, balanced_accuracy_limits, counts_of
from deeplens_tf.metrics.classification import confusion_matrix
from deeplens_tf.metrics.intervals import wilson_interval
from deeplens_tf.metrics.regression import regression_metrics
from deeplens_tf.models.downstream import DownstreamModel
from deeplens_tf.probes.outputs import model_outputs
from deeplens_tf.terminal import counted


def outcome(model: DownstreamModel, data: PreparedData) -> list[str]:
    """Return what the validation images say of a model, if it is bad; they chose its epoch.

    Nothing without validation images that have a label or a mass.
    """
    if not data.count("validation"):
        return []
    if model.class_names:
        outputs = model_outputs(model, data, "validation", show_progress=False)
        labels = data.index("validation")["label"].to_numpy()
        return classification_outcome(labels, outputs, model.class_names, model.class_weights)
    values = target_values(data, "validation", model.target)
    usable = ~np.isnan(values)
    if not usable.any():
        return []
    outputs = model_outputs(model, data, "validation", usable, show_progress=False)
    return regression_outcome(values[usable], outputs[:, 0])


def classification_outcome(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    names: tuple[str, ...],
    weights: tuple[float, ...] | None = None,
) -> list[str]:
    """Return a line on classes that are never predicted, and one on an outcome within chance.

    Within chance: the 95 % intervals reach down to the share of the commonest class for the
    accuracy, and to an equal share for the mean recall.

    Args:
        labels: true class indices, shape (n,).
        probabilities: predicted, shape (n, classes).
        names: of the classes.
        weights: of the classes in the loss. The largest weighted probability then decides on
            chance, since the largest probability finds a rare class only if nearly certain.
    """
    weighted = probabilities if weights is None else probabilities * np.array(weights)
    counts, decided = (
        counts_of(confusion_matrix(labels, each.argmax(axis=1), len(names)))
        for each in (probabilities, weighted)
    )
    missed = [
        f"{name} ({counted(true, 'image')})"
        for name, true, found in zip(names, counts.true, counts.predicted, strict=True)
        if true and not found
    ]
    lines = [f"validation: never predicted: {', '.join(missed)}"] if missed else []
    return [*lines, *_chance_line(decided)]


def _chance_line(counts: Counts) -> list[str]:
    total, present = counts.true.sum(), (counts.true > 0).sum()
    commonest, accuracy = counts.true.max() / total, counts.hits.sum() / total
    low, high = wilson_interval(counts.hits.sum(), total)
    if present < 2 or low > commonest or balanced_accuracy_limits(counts)[0] > 1 / present:
        return []
    return [
        f"validation: no better than chance: accuracy {accuracy:.2f} [{low:.2f}, {high:.2f}] on "
        f"{counted(total, 'image')}, of which the commonest class has {commonest:.2f}"
    ]


def regression_outcome(
    true_log10: NDArray[np.floating], predicted_log10: NDArray[np.floating]
) -> list[str]:
    """Return a line if the predictions are no better than the mean of the true values.

    Args:
        true_log10: shape (n,).
        predicted_log10: shape (n,).
    """
    r2 = regression_metrics(true_log10, predicted_log10)["r2"]
    if r2 is None or r2 > 0:
        return []
    return [
        f"validation: no better than chance: R² {r2:.2f} on {len(true_log10)} images, and 0 for "
        "always predicting their mean"
    ]


def what_helps(config: FinetuneConfig, weighted: bool) -> str:
    """Return what may improve an outcome, without what the run has already.

    Args:
        config: of the fine-tuning.
        weighted: whether the classes have weights in the loss.
    """
    helps = ["more labels" if config.fraction == 1 else "a larger finetune.fraction"]
    if config.encoder == FROM_SCRATCH:
        helps.append("a pretrained encoder (--encoder)")
    if config.head == "classification" and not weighted:
        helps.append("finetune.class_weight=balanced for rare classes")
    if weighted:
        helps.append("a threshold on p_<class> instead of the largest probability")
    if config.freeze:
        helps.append("an encoder that is not frozen")
    return f"what may help: {', '.join(helps)}, more epochs (train.epochs)"
