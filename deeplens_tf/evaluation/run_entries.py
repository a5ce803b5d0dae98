"""Evaluated runs as the typed entries of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeplens_tf.config import Config
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.metrics_file import (
    Estimates,
    ProbeScores,
    ReportedScores,
    count_of_labels,
    parse_metrics,
)
from deeplens_tf.evaluation.origin_text import (
    architecture_of,
    augmentations_of,
    method_of,
    origin_seeds,
    origin_settings,
    printable_name,
    printable_settings,
)
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.identity import result_settings
from deeplens_tf.runs.provenance import features_origin
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import counted, print_lines, printable

BASELINE = "supervised baseline"
CONTROL = "untrained control"
PARSING_ERRORS = (
    *(KeyError, TypeError, ValueError, AttributeError, RecursionError),
    FileNotFoundError,
)


@dataclass(frozen=True)
class Entry:
    """One evaluated model: how it was made and its scores.

    Attributes:
        run: the folder.
        method: of the pretraining, `BASELINE` or `CONTROL`, and whether labels were used.
        augmentations: of the pretraining, "" without one.
        encoder: its name.
        readout: "fine-tuned", "frozen", or the kind of probe.
        labels: number of training labels used.
        seeds: of the run and of the runs that made its encoder.
        settings: key -> value, all other settings that affect the scores.
        architecture: description of the encoder.
        head: "classification" or "regression", with the column of a catalogue if it is of one.
        test_set: digest of the scored images.
        estimates: quantity -> estimate.
    """

    run: str
    method: str
    augmentations: str
    encoder: str
    readout: str
    labels: int
    seeds: tuple[int, ...]
    settings: dict[str, str]
    architecture: str
    head: str
    test_set: str
    estimates: Estimates

    @property
    def label(self) -> tuple[str, str, str, str, int]:
        """The first columns of its row; entries with different settings may share it."""
        return self.method, self.augmentations, self.encoder, self.readout, self.labels


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """Read every evaluation of the runs: of a fine-tuned model, or of probes and their controls.

    If the runs have exactly one head in common, evaluations of the other head are left out.

    Raises:
        RequestError: a folder is not a run, or was never evaluated.
    """
    of_runs = [_read_run(Run(folder)) for folder in folders]
    common = set.intersection(*({entry.head for entry in entries} for entries in of_runs))
    all_wanted = len(common) != 1
    return [entry for entries in of_runs for entry in entries if all_wanted or entry.head in common]


def _read_run(run: Run) -> list[Entry]:
    config = run.load_config()
    try:
        reports = [parse_metrics(values) for values in _read_reports(run)]
        return [entry for report in reports for entry in _entries(run, config, report)]
    except PARSING_ERRORS as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"{run.folder}: evaluated by another version or damaged ({error!r:.120}); "
            "run deeplens_tf.evaluate on it again"
        ) from error


def _read_reports(run: Run) -> list[dict[str, Any]]:
    reports = [read_json(path) for path in sorted(run.folder.glob("evaluation/*/metrics.json"))]
    reports = _without_external(run, reports)
    # One table must not mix splits; validation counts only if there is no test split.
    tested = [values for values in reports if values["split"] == "test"]
    if not reports:
        raise RequestError(f"{run.folder}: not evaluated; run deeplens_tf.evaluate on it first")
    return tested or reports


def _without_external(run: Run, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out reports on other data than the run's, unless there are no others."""
    own = [values for values in reports if values.get("data", {}).get("own", True)]
    if own and len(own) < len(reports):
        count = len(reports) - len(own)
        print_lines(
            f"{run.folder}: left out of the comparison: {counted(count, 'report')} on other "
            "data than the run's"
        )
    return own or reports


def _entries(run: Run, config: Config, report: ReportedScores) -> list[Entry]:
    if report.probe is None:
        return [_of_model(run, config, report)]
    return _of_probe(run, config, report, report.probe)


def _of_model(run: Run, config: Config, report: ReportedScores) -> Entry:
    facts = read_json(run.environment)
    origin = facts["encoder"]
    own = result_settings(config, "finetune") | {"data": facts.get("dataset_fingerprint")}
    return Entry(
        run=printable(run.folder),
        method=method_of(origin) or BASELINE,
        augmentations=augmentations_of(origin),
        encoder=printable_name(config.encoder.name),
        readout="frozen" if config.finetune.freeze else "fine-tuned",
        labels=count_of_labels(facts["labels_used"]),
        seeds=(config.seed, *origin_seeds(origin)),
        settings=printable_settings(own) | origin_settings(origin),
        architecture=architecture_of(config),
        head=report.head,
        test_set=report.test_set,
        estimates=report.estimates,
    )


def _of_probe(run: Run, config: Config, report: ReportedScores, probe: ProbeScores) -> list[Entry]:
    origin = features_origin(run)
    encoder = Entry(
        run=printable(run.folder),
        method=method_of(origin),
        augmentations=augmentations_of(origin),
        encoder=printable_name(config.encoder.name),
        readout=f"{probe.kind} probe",
        labels=probe.labels,
        seeds=tuple(origin_seeds(origin)),
        settings=probe.settings | origin_settings(origin),
        architecture=architecture_of(config),
        head=report.head,
        test_set=report.test_set,
        estimates=report.estimates,
    )
    network = {
        key: value
        for key, value in result_settings(config, "pretrain").items()
        if key.startswith(("encoder.", "data."))
    }
    control = replace(
        encoder,
        method=CONTROL,
        augmentations="",
        seeds=(config.seed,),
        settings=probe.settings | printable_settings(network),
        estimates=probe.control,
    )
    return [encoder, control]
