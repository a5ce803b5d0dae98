"""A `metrics.json`, which may be untrusted, parsed into a checked and typed record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from deeplens_tf.evaluation.origin_text import DATA_OF_PROBE, printable_name, printable_settings
from deeplens_tf.preprocessing.target import MASS, Target

QUANTITIES = {
    "classification": ("macro_auc", "accuracy"),
    "regression": ("mae_dex", "r2"),
    "regression of a column": ("mae", "r2"),  # whose errors are not in dex
}
MAX_SCORE = 1e6
MAX_LABELS = 2**40


class Estimate(NamedTuple):
    """A metric and its 95 % interval over the test images; NaN where undefined."""

    value: float
    low: float
    high: float


Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class ProbeScores:
    """The part of a `metrics.json` that only the report on a probe has.

    Attributes:
        kind: of the probe.
        labels: number of training labels used.
        settings: the data that the probe was fitted to.
        control: quantity -> estimate for the untrained network.
    """

    kind: str
    labels: int
    settings: dict[str, str]
    control: Estimates


@dataclass(frozen=True)
class ReportedScores:
    """The part of a `metrics.json` that a comparison uses.

    Attributes:
        head: "classification", "regression" or "regression of <a column>".
        test_set: digest of the scored images.
        split: their split.
        estimates: quantity -> estimate.
        probe: of the report on a probe; None for a fine-tuned model.
    """

    head: str
    test_set: str
    split: str
    estimates: Estimates
    probe: ProbeScores | None


def parse_metrics(values: Mapping[str, Any]) -> ReportedScores:
    """Check and parse the content of a `metrics.json`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not that of a `metrics.json`.
    """
    head = printable_name(values["head"])
    quantity = f"{head} of {target_of(values).label}" if "target" in values else head
    return ReportedScores(
        head=printable_name(quantity),
        test_set=printable_name(values["test_set"]),
        split=printable_name(values["split"]),
        estimates=_estimates(values, quantities_of_report(values)),
        probe=_probe(values) if "control" in values else None,
    )


def of_target(metrics: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the metrics of a regression with its target, and errors named by their unit.

    Those of the axion mass stay as they are; those that are not of a logarithm lose their `_dex`.
    """
    if target.is_mass:
        return dict(metrics)
    found = dict(metrics) if target.log10 else _without_dex(metrics)
    return {"target": asdict(target), **found}


def _without_dex(metrics: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _without_dex(value) for key, value in metrics.items() if isinstance(value, dict)}
    return {key.replace("_dex", ""): value for key, value in {**metrics, **nested}.items()}


def target_of(values: Mapping[str, Any]) -> Target:
    """Return what a report on a regression is about.

    Raises:
        ValueError: it does not say so.
    """
    return Target.from_dict(values["target"]) if "target" in values else MASS


def quantities_of_report(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the metrics of a report that are compared."""
    of_column = "target" in values and not target_of(values).log10
    return QUANTITIES["regression of a column" if of_column else values["head"]]


def count_of_labels(value: Any) -> int:
    """Return a number of labels.

    Raises:
        ValueError: it is not a number of labels.
    """
    if type(value) is not int or not 0 <= value < MAX_LABELS:
        raise ValueError(f"expected a number of labels, found {value!r:.40}")
    return value


def _probe(values: Mapping[str, Any]) -> ProbeScores:
    fingerprint = values.get("data", {}).get("fingerprint")
    return ProbeScores(
        kind=printable_name(values["probe"]),
        labels=count_of_labels(values["n_train"]),
        settings=printable_settings({DATA_OF_PROBE: fingerprint}),
        control=_estimates(values["control"], quantities_of_report(values)),
    )


def _estimates(values: Mapping[str, Any], quantities: Sequence[str]) -> Estimates:
    intervals = values["intervals_95"]
    return {
        quantity: _estimate(values[quantity], intervals.get(quantity)) for quantity in quantities
    }


def _estimate(value: Any, interval: Any) -> Estimate:
    low, high = interval or (None, None)
    return Estimate(_number(value), _number(low), _number(high))


def _number(value: Any) -> float:
    """Return a score; NaN for the null of an undefined one."""
    if value is None:
        return math.nan
    # Python counts a bool as an int, and an axis cannot show arbitrarily large numbers.
    if type(value) not in (int, float) or not abs(value) <= MAX_SCORE:
        raise ValueError(f"expected a score, found {value!r:.40}")
    return float(value)
