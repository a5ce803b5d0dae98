"""Evaluated runs laid beside each other: one table, one picture, one test set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from deeplens_tf.config import Config
from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.origin_text import (
    architecture_of,
    method_of,
    named,
    origin_seeds,
    origin_settings,
    pretext_of,
    shown_settings,
)
from deeplens_tf.files.json_objects import read_json
from deeplens_tf.runs.identity import deciding_settings
from deeplens_tf.runs.provenance import features_origin
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import printable

QUANTITIES = {"classification": ("macro_auc", "accuracy"), "regression": ("mae_dex", "r2")}
KEYS = ["method", "pretext", "encoder", "readout", "labels"]
DIFFERING = "differing"
BASELINE = "supervised baseline"
CONTROL = "untrained control"
MAX_SCORE = 1e6
DAMAGES = (
    *(KeyError, TypeError, ValueError, AttributeError, RecursionError),
    FileNotFoundError,
)


@dataclass(frozen=True)
class Entry:
    """One evaluated model: what it was and what it scored.

    Attributes:
        run: the folder.
        method: of the pretraining, `BASELINE` or `CONTROL`; with labels' part in the features.
        pretext: the views of the pretraining, "" where there was none.
        encoder: its name.
        readout: "fine-tuned", "frozen", or the kind of probe.
        labels: training labels used.
        seeds: of the run, and of those that made its encoder.
        settings: key -> value, of all else that decides the scores.
        architecture: of the encoder, in words.
        head: "classification" or "regression".
        test_set: digest of the images scored.
        split: their split.
        scores: quantity -> value.
        intervals: quantity -> 95 % interval over the test images.
    """

    run: str
    method: str
    pretext: str
    encoder: str
    readout: str
    labels: int
    seeds: tuple[int, ...]
    settings: dict[str, str]
    architecture: str
    head: str
    test_set: str
    split: str
    scores: dict[str, float]
    intervals: dict[str, list[float]]

    @property
    def label(self) -> tuple:
        """What the table says of it first; two that were trained differently may share it."""
        return tuple(getattr(self, key) for key in KEYS)


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """Read every evaluation of the runs: of a fine-tuned model, or of probes and their controls.

    Where the runs have one head in common, the evaluations of the other head are passed over.

    Raises:
        RequestError: a folder is no run, or was never evaluated.
    """
    of_runs = [_entries(Run(folder)) for folder in folders]
    common = set.intersection(*({entry.head for entry in entries} for entries in of_runs))
    wanted = common if len(common) == 1 else set(QUANTITIES)
    return [entry for entries in of_runs for entry in entries if entry.head in wanted]


def compare(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return one row for each way of training, runs that differ by their seeds alone averaged.

    A way of training is everything that decides a score but seeds and places: the run's
    configuration, the data's fingerprint, and the same of the runs that made its encoder.

    With one seed the interval is the bootstrap's over test images; with more it is Student's,
    of the mean over seeds.

    Returns:
        Columns `method`, `pretext`, `encoder`, `readout`, `labels`, `differing` (the settings, with
        their values, by which rows that have those five in common differ), `seeds` (how many) and,
        for each quantity, its mean, `<quantity>_low` and `<quantity>_high`.

    Raises:
        RequestError: the entries were scored on different test sets, or on different quantities;
            or two are the same training, with the same seeds.
    """
    _require_one(entries, "test_set", "test sets")
    _require_one(entries, "head", "quantities")
    groups: dict[tuple, list[Entry]] = {}
    for entry in entries:
        group = groups.setdefault((entry.label, frozenset(entry.settings.items())), [])
        if not _is_known(entry, group):
            group.append(entry)
    rows = [_row(members, _differing(members[0], entries)) for members in groups.values()]
    best_first = QUANTITIES[entries[0].head][0]
    lower_is_better = best_first == "mae_dex"
    return pd.DataFrame(rows).sort_values(best_first, ascending=lower_is_better, ignore_index=True)


def markdown_table(table: pd.DataFrame, head: str) -> str:
    """Return the table of `compare` as Markdown, each quantity with its interval."""
    told = [*KEYS, *([DIFFERING] if table[DIFFERING].any() else []), "seeds"]
    columns = [*told, *QUANTITIES[head]]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for _, row in table.iterrows():
        plain = [str(row[key]).replace("|", "\\|") for key in told]
        figures = [_figure(row, quantity) for quantity in QUANTITIES[head]]
        lines.append("| " + " | ".join(plain + figures) + " |")
    return "\n".join(lines) + "\n"


def missing_references(entries: Sequence[Entry]) -> list[str]:
    """Return the references that the comparison lacks, in words.

    A result counts beside a `BASELINE` and a `CONTROL` of its own encoder architecture and of as
    many labels as it had.
    """
    trained = [entry for entry in entries if entry.method != CONTROL]
    there = {(entry.method, entry.labels, entry.architecture) for entry in entries}
    needed = dict.fromkeys(
        (name, entry.labels, entry.architecture)
        for entry in trained
        for name in (BASELINE, CONTROL)
    )
    return [
        f"{name} with {labels} labels ({architecture})"
        for name, labels, architecture in needed
        if (name, labels, architecture) not in there
    ]


def _entries(run: Run) -> list[Entry]:
    run.load_config()
    try:
        return _read_reports(run)
    except DAMAGES as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"{run.folder}: evaluated by another version or damaged ({error!r:.120}); "
            "run deeplens_tf.evaluate on it again"
        ) from error


def _read_reports(run: Run) -> list[Entry]:
    reports = sorted(run.folder.glob("evaluation/*/metrics.json"))
    scored = [read_json(path) for path in reports]
    # A validation split is scored where there is no test split; never both in one table.
    if any(metrics["split"] == "test" for metrics in scored):
        scored = [metrics for metrics in scored if metrics["split"] == "test"]
    if not scored:
        raise RequestError(f"{run.folder}: not evaluated; run deeplens_tf.evaluate on it first")
    return [entry for metrics in scored for entry in _of_metrics(run, metrics)]


def _of_metrics(run: Run, metrics: dict[str, Any]) -> list[Entry]:
    config = run.load_config()
    common = {
        "run": printable(run.folder),
        "encoder": named(config.encoder.name),
        "architecture": architecture_of(config),
        "head": named(metrics["head"]),
        "test_set": named(metrics["test_set"]),
        "split": named(metrics["split"]),
    }
    of_metrics = _of_probe if "control" in metrics else _of_model
    return of_metrics(run, config, metrics, common)


def _of_model(
    run: Run, config: Config, metrics: dict[str, Any], common: dict[str, str]
) -> list[Entry]:
    facts = read_json(run.folder / "environment.json")
    origin = facts["encoder"]
    own = deciding_settings(config, "finetune") | {"data": facts.get("dataset_fingerprint")}
    return [
        Entry(
            method=method_of(origin) or BASELINE,
            pretext=pretext_of(origin),
            readout="frozen" if config.finetune.freeze else "fine-tuned",
            labels=_count(facts["labels_used"]),
            seeds=(config.seed, *origin_seeds(origin)),
            settings=shown_settings(own) | origin_settings(origin),
            **_scores(metrics, metrics["head"]),
            **common,
        )
    ]


def _of_probe(
    run: Run, config: Config, metrics: dict[str, Any], common: dict[str, str]
) -> list[Entry]:
    origin, control = features_origin(run), metrics["control"]
    on = {"data of the probe": metrics.get("data", {}).get("fingerprint")}
    probed = {"readout": f"{named(metrics['probe'])} probe", "labels": _count(metrics["n_train"])}
    network = {
        key: value
        for key, value in deciding_settings(config, "pretrain").items()
        if key.startswith(("encoder.", "data."))
    }
    return [
        Entry(
            method=method_of(origin),
            pretext=pretext_of(origin),
            seeds=tuple(origin_seeds(origin)),
            settings=shown_settings(on) | origin_settings(origin),
            **_scores(metrics, common["head"]),
            **probed,
            **common,
        ),
        Entry(
            method=CONTROL,
            pretext="",
            seeds=(config.seed,),
            settings=shown_settings(on | network),
            **_scores(control, common["head"]),
            **probed,
            **common,
        ),
    ]


def _scores(metrics: dict[str, Any], head: str) -> dict[str, Any]:
    found = metrics["intervals_95"]
    values = {q: _number(metrics[q]) for q in QUANTITIES[head]}
    intervals = {q: _interval(found.get(q)) for q in QUANTITIES[head]}
    return {"scores": values, "intervals": intervals}


def _interval(value: Any) -> list[float]:
    low, high = value or (None, None)
    return [_number(low), _number(high)]


def _number(value: Any) -> float:
    """Return a score; NaN where JSON has null for one that is undefined."""
    if value is None:
        return math.nan
    # A bool is an int to Python; and what is drawn must be of a size that an axis can show.
    if type(value) not in (int, float) or not abs(value) <= MAX_SCORE:
        raise ValueError(f"{value!r:.40} where a score should be")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError(f"{value!r:.40} where a number of labels should be")
    return value


def _require_one(entries: Sequence[Entry], field: str, what: str) -> None:
    found = sorted({getattr(entry, field) for entry in entries})
    if len(found) > 1:
        listed = ", ".join(value[:12] for value in found)
        raise RequestError(f"the runs were scored on different {what} ({listed}): not comparable")


def _is_known(entry: Entry, group: Sequence[Entry]) -> bool:
    """Tell whether a control is there already: that of two runs which share a seed is one network.

    Raises:
        RequestError: the entry is of a training that is there already.
    """
    for member in group:
        if member.seeds == entry.seeds and entry.method != CONTROL:
            raise RequestError(
                f"{member.run} and {entry.run} are the same training, by configuration, encoder, "
                f"data and seed: give one of them"
            )
    return any(member.seeds == entry.seeds for member in group)


def _differing(entry: Entry, entries: Sequence[Entry]) -> str:
    """Say which settings, with what values, tell an entry from others of the same label."""
    alike = [other.settings for other in entries if other.label == entry.label]
    keys = dict.fromkeys(key for settings in alike for key in settings)
    return "; ".join(
        f"{key} {entry.settings.get(key, 'none')}"
        for key in keys
        if len({settings.get(key) for settings in alike}) > 1
    )


def _row(members: Sequence[Entry], differing: str) -> dict[str, Any]:
    row = dict(zip(KEYS, members[0].label, strict=True))
    row |= {DIFFERING: differing, "seeds": len(members)}
    for quantity in members[0].scores:
        values = np.array([member.scores[quantity] for member in members])
        low, high = members[0].intervals[quantity] if len(members) == 1 else _student(values)
        row |= {quantity: values.mean(), f"{quantity}_low": low, f"{quantity}_high": high}
    return row


def _student(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of a few normal draws (Student 1908)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def _figure(row: pd.Series, quantity: str) -> str:
    return f"{row[quantity]:.3f} [{row[f'{quantity}_low']:.3f}, {row[f'{quantity}_high']:.3f}]"
