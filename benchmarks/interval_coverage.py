"""How often the 95 % intervals of a report contain the true value, by simulation.

    python benchmarks/interval_coverage.py

Draws many test sets of 10, 60 and 1,000 images from classifiers and regressors whose scores follow
known distributions, and counts the test sets whose interval contains the metric of very many
images, in brackets. Test sets in which a metric is undefined do not count for it. Those that lack a
class do not count for a mean over classes, which is another quantity then. A correct interval
contains the true value in 95 % of the test sets; with 1,000 of them the percentage is known to 0.7.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm

from deeplens_tf.metrics.classification import classification_intervals, classification_metrics
from deeplens_tf.metrics.regression import regression_intervals, regression_metrics

SIZES = (10, 60, 1000)
VERY_MANY = 1_000_000
NAMES = ("lens", "other", "star")
CLASS_METRICS = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "macro AUC": "macro_auc",
    "AUC": "per_class_auc.lens",
    "AP": "average_precision.lens",
    "macro AP": "macro_average_precision",
    "F1": "classification_report.lens.f1",
    "precision": "classification_report.lens.precision",
    "recall": "classification_report.lens.recall",
    "calibration error": "expected_calibration_error",
}
MASS_METRICS = {name: name for name in ("mae_dex", "rmse_dex", "r2", "coverage_68")}
MEANS = ("balanced_accuracy", "macro_auc", "macro_average_precision")
Values = Mapping[str, Any]
Draw = Callable[[np.random.Generator, int], tuple]


class Simulation(NamedTuple):
    """How test sets are drawn and scored."""

    draw: Draw
    metrics: Callable[..., Values]
    intervals: Callable[..., Values]


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap intervals")
    arguments = parser.parse_args()
    print(f"{_processor()}, {arguments.repetitions} repetitions\n")
    for columns, simulations in (
        (CLASS_METRICS, classifiers(arguments.resamples)),
        (MASS_METRICS, regressors(arguments.resamples)),
    ):
        print("| simulation | images | " + " | ".join(columns) + " |")
        print("| --- |" + " ---: |" * (len(columns) + 1))
        for name, simulation in simulations.items():
            true = _flat(simulation.metrics(*simulation.draw(np.random.default_rng(0), VERY_MANY)))
            for images in SIZES:
                found = coverage(simulation, true, images, arguments.repetitions)
                cells = [_percent(found[key], true[key]) for key in columns.values()]
                print(f"| {name} | {images} | " + " | ".join(cells) + " |", flush=True)
        print()


def classifiers(resamples: int) -> dict[str, Simulation]:
    """Return simulations of classifiers: rare and common lenses, two and three classes."""
    draws = {
        "half lenses, AUC 0.80": binormal(0.8, 0.5),
        "half lenses, AUC 0.97": binormal(0.97, 0.5),
        "5 % lenses, AUC 0.80": binormal(0.8, 0.05),
        "5 % lenses, AUC 0.97": binormal(0.97, 0.05),
        "half lenses, AUC 0.80, overconfident": binormal(0.8, 0.5, sharpening=2.0),
        "three classes": three_classes,
    }

    intervals = partial(classification_intervals, seed=0, resamples=resamples)
    return {
        name: Simulation(draw, classification_metrics, intervals) for name, draw in draws.items()
    }


def regressors(resamples: int) -> dict[str, Simulation]:
    """Return simulations of regressors: with normal and with heavy-tailed errors."""
    intervals = partial(regression_intervals, seed=0, resamples=resamples)
    return {
        "normal errors": Simulation(masses(np.inf), regression_metrics, intervals),
        "Student's t errors, 5 degrees": Simulation(masses(5), regression_metrics, intervals),
    }


def binormal(area: float, share: float, sharpening: float = 1.0) -> Draw:
    """Return a draw of (labels, probabilities, names): normal scores that differ in their mean.

    Args:
        area: under the ROC curve.
        share: of lenses.
        sharpening: factor of the logits; without it the probabilities are calibrated.
    """
    distance = np.sqrt(2) * norm.ppf(area)

    def draw(generator: np.random.Generator, images: int) -> tuple:
        is_lens = generator.random(images) < share
        scores = generator.normal(distance * is_lens)
        logits = sharpening * (distance * (scores - distance / 2) + np.log(share / (1 - share)))
        chances = softmax(np.stack([logits, np.zeros(images)], axis=1), axis=1)
        return np.where(is_lens, 0, 1), chances, NAMES[:2]

    return draw


def three_classes(generator: np.random.Generator, images: int) -> tuple:
    """Draw (labels, probabilities, names) of a calibrated classifier of three classes."""
    chances = softmax(2 * generator.normal(size=(images, 3)), axis=1)
    labels = (chances.cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    return labels, chances, NAMES


def masses(degrees: float) -> Draw:
    """Return a draw of (true, predicted, deviations) with errors of Student's distribution."""

    def draw(generator: np.random.Generator, images: int) -> tuple[NDArray, ...]:
        true = generator.uniform(-24, -22, images)
        errors = generator.normal(size=images)
        if np.isfinite(degrees):
            errors /= np.sqrt(generator.chisquare(degrees, images) / degrees)
        return true, true + 0.3 * errors, np.full(images, 0.3)

    return draw


def coverage(
    simulation: Simulation, true: Values, images: int, repetitions: int
) -> dict[str, list[bool]]:
    """Return for each metric whether each of its intervals contains its true value."""
    found = defaultdict(list)
    for repetition in range(repetitions):
        test_set = simulation.draw(np.random.default_rng([images, repetition]), images)
        others = MEANS if _lacks_a_class(test_set) else ()
        for name, interval in simulation.intervals(*test_set).items():
            if interval is not None and name not in others:
                found[name].append(interval[0] <= true[name] <= interval[1])
    return found


def _lacks_a_class(test_set: tuple) -> bool:
    labels, *_, names = test_set
    return len(np.unique(labels)) < len(names)


def _flat(metrics: Values) -> Values:
    """Return the metrics by the names of their intervals."""
    flat = dict(metrics)
    for name in ("per_class_auc", "average_precision"):
        flat |= {f"{name}.{part}": value for part, value in metrics.get(name, {}).items()}
    for label, row in metrics.get("classification_report", {}).items():
        flat |= {f"classification_report.{label}.{part}": value for part, value in row.items()}
    return flat


def _percent(contained: Sequence[bool], true: float) -> str:
    return f"{100 * np.mean(contained):.1f} ({true:.3f})" if contained else "undefined"


def _processor() -> str:
    """Return the name of the processor, where Linux states it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


if __name__ == "__main__":
    main()
