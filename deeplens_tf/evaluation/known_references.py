"""References of a fine-tuned model that were measured already, in its own run or in one beside it.

Records of runs may be untrusted: what is not a report of the same images is passed over.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.evaluation.html_page import Table
from deeplens_tf.evaluation.metrics_file import Estimate, Estimates, ReportedScores, parse_metrics
from deeplens_tf.evaluation.score_tables import score_name
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.identity import result_settings
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import counted


@dataclass(frozen=True)
class KnownReferences:
    """What was measured on the images of a report.

    Attributes:
        own: scores of the model itself.
        control: the report on a probe of its encoder, which has the untrained control; or None.
        baseline: name and scores of a run from random weights with the same settings; or None.
    """

    own: Estimates
    control: ReportedScores | None
    baseline: tuple[str, ReportedScores] | None

    def table(self) -> Table:
        """Return the scores side by side."""
        rows = [_row("this model", self.own)]
        if self.control and (probe := self.control.probe):
            labels = counted(probe.labels, "label")
            rows.append(_row(f"probe of its encoder, {labels}", self.control.estimates))
            rows.append(_row(f"probe of the untrained network, {labels}", probe.control))
        if self.baseline:
            name, scores = self.baseline
            rows.append(_row(f"from random weights: {name}", scores.estimates))
        header = ["network", *(score_name(key) for key in self.own)]
        return Table("The model beside its references, on the same images", header, rows)


def known_references(run: Run, metrics: Mapping[str, Any]) -> KnownReferences:
    """Find the references of a fine-tuned model.

    Args:
        run: of the model.
        metrics: of its report.
    """
    try:
        own = parse_metrics({key: _as_in_file(value) for key, value in metrics.items()})
    except ValueError:  # scores that no comparison takes, such as an error above a million
        return KnownReferences({}, None, None)
    control = next((found for found in _reports(run, own) if found.probe), None)
    return KnownReferences(own.estimates, control, _baseline(run, own))


def _as_in_file(value: Any) -> Any:
    """Return None for a score that is undefined, as `metrics.json` has it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reports(run: Run, own: ReportedScores) -> Iterator[ReportedScores]:
    """Yield the reports of a run on the same images."""
    for path in sorted(run.folder.glob("evaluation/*/metrics.json")):
        try:
            found = parse_metrics(read_json(path))
        except (OSError, UnusableFile, KeyError, TypeError, ValueError, AttributeError):
            continue
        if (found.test_set, found.head) == (own.test_set, own.head):
            yield found


def _baseline(run: Run, own: ReportedScores) -> tuple[str, ReportedScores] | None:
    wanted = _settings(run)
    for path in sorted(run.folder.resolve().parent.glob("*/model.keras")):
        other = Run(path.parent)
        encoder = other.facts().get("encoder")
        if not isinstance(encoder, dict) or encoder.get("method", "") is not None:
            continue
        if other.folder == run.folder.resolve() or _settings(other) != wanted:
            continue
        for found in _reports(other, own):
            if found.probe is None:
                return other.folder.name, found
    return None


def _settings(run: Run) -> dict[str, Any] | None:
    """Return what the result of a fine-tuning depends on, apart from its encoder's origin."""
    try:
        settings = result_settings(run.load_config(), "finetune")
    except RequestError:
        return None
    facts = run.facts()
    return settings | {key: facts.get(key) for key in ("dataset_fingerprint", "labels_used")}


def _row(name: str, estimates: Estimates) -> list[str]:
    return [name, *(_text(estimate) for estimate in estimates.values())]


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "undefined"
    ends = "" if math.isnan(estimate.low) else f" [{estimate.low:.4f}, {estimate.high:.4f}]"
    return f"{estimate.value:.4f}{ends}"
