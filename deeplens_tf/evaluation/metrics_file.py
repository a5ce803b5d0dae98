"""A `metrics.json`, which may be untrusted, parsed into a checked and typed record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from deeplens_tf.evaluation.origin_text import DATA_OF_PROBE, printable_name, printable_settings

QUANTITIES = {"classification": ("macro_auc", "accuracy"), "regression": ("mae_dex", "r2")}
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
        head: "classification" or "regression".
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
    return ReportedScores(
        head=head,
        test_set=printable_name(values["test_set"]),
        split=printable_name(values["split"]),
        estimates=_estimates(values, head),
        probe=_probe(values, head) if "control" in values else None,
    )


def count_of_labels(value: Any) -> int:
    """Return a number of labels.

    Raises:
        ValueError: it is not a number of labels.
    """
    if type(value) is not int or not 0 <= value < MAX_LABELS:
        raise ValueError(f"expected a number of labels, found {value!r:.40}")
    return value


def _probe(values: Mapping[str, Any], head: str) -> ProbeScores:
    fingerprint = values.get("data", {}).get("fingerprint")
    return ProbeScores(
        kind=printable_name(values["probe"]),
        labels=count_of_labels(values["n_train"]),
        settings=printable_settings({DATA_OF_PROBE: fingerprint}),
        control=_estimates(values["control"], head),
    )


def _estimates(values: Mapping[str, Any], head: str) -> Estimates:
    intervals = values["intervals_95"]
    return {
        quantity: _estimate(values[quantity], intervals.get(quantity))
        for quantity in QUANTITIES[head]
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
