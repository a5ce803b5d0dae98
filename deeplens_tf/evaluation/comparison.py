"""Evaluated runs laid beside each other: one table, one picture, one test set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from deeplens_tf.errors import RequestError
from deeplens_tf.json_files import read_json
from deeplens_tf.terminal import printable
from deeplens_tf.training.runs import Run

QUANTITIES = {"classification": ("macro_auc", "accuracy"), "regression": ("mae_dex", "r2")}
KEYS = ["method", "pretext", "encoder", "readout", "labels"]
BASELINE = "supervised baseline"
CONTROL = "untrained control"
LARGEST_SCORE = 1e6
LONGEST_NAME = 200


@dataclass(frozen=True)
class Entry:
    """One evaluated model: what it was and what it scored.

    Attributes:
        method: of the pretraining, `BASELINE` or `CONTROL`.
        pretext: the views of the pretraining, "" where there was none.
        encoder: its name.
        readout: "fine-tuned", "frozen", or the kind of probe.
        labels: training labels used.
        seed: of the run.
        head: "classification" or "regression".
        test_set: digest of the images scored.
        split: their split.
        scores: quantity -> value.
        intervals: quantity -> 95 % interval over the test images.
    """

    method: str
    pretext: str
    encoder: str
    readout: str
    labels: int
    seed: int
    head: str
    test_set: str
    split: str
    scores: dict[str, float]
    intervals: dict[str, list[float]]


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """Read every evaluation of the runs: of a fine-tuned model, or of probes and their controls.

    Raises:
        RequestError: a folder is no run, or was never evaluated.
    """
    return [entry for folder in folders for entry in _entries(Run(folder))]


def compare(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return one row for each way of training, runs that differ by their seed alone averaged.

    With one seed the interval is the bootstrap's over test images; with more it is Student's,
    of the mean over seeds.

    Returns:
        Columns `method`, `pretext`, `encoder`, `readout`, `labels`, `seeds` and, for each
        quantity, its mean, `<quantity>_low` and `<quantity>_high`.

    Raises:
        RequestError: the entries were scored on different test sets, or on different quantities.
    """
    _require_one(entries, "test_set", "test sets")
    _require_one(entries, "head", "quantities")
    groups: dict[tuple, list[Entry]] = {}
    for entry in entries:
        group = groups.setdefault(tuple(getattr(entry, key) for key in KEYS), [])
        # The control of two runs that share a seed is one network, counted once.
        if entry.seed not in [member.seed for member in group]:
            group.append(entry)
    rows = [_row(key, members) for key, members in groups.items()]
    best_first = QUANTITIES[entries[0].head][0]
    lower_is_better = best_first == "mae_dex"
    return pd.DataFrame(rows).sort_values(best_first, ascending=lower_is_better, ignore_index=True)


def markdown_table(table: pd.DataFrame, head: str) -> str:
    """Return the table of `compare` as Markdown, each quantity with its interval."""
    columns = [*KEYS, "seeds", *QUANTITIES[head]]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for _, row in table.iterrows():
        plain = [str(row[key]).replace("|", "\\|") for key in [*KEYS, "seeds"]]
        figures = [_figure(row, quantity) for quantity in QUANTITIES[head]]
        lines.append("| " + " | ".join(plain + figures) + " |")
    return "\n".join(lines) + "\n"


def missing_references(table: pd.DataFrame) -> list[str]:
    """Return which of the two references, baseline and control, the table lacks."""
    return [name for name in (BASELINE, CONTROL) if name not in set(table["method"])]


def _entries(run: Run) -> list[Entry]:
    run.load_config()
    try:
        return _read_reports(run)
    except (KeyError, TypeError, ValueError, AttributeError, FileNotFoundError) as error:
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
        "encoder": _text(config.encoder.name),
        "seed": config.seed,
        "head": _text(metrics["head"]),
        "test_set": _text(metrics["test_set"]),
        "split": _text(metrics["split"]),
    }
    if "control" in metrics:
        views = ", ".join(config.augment.views)
        return [
            _probed(metrics, config.pretrain.method, views, common),
            _probed(metrics["control"], CONTROL, "", common),
        ]
    facts = read_json(run.folder / "environment.json")
    origin = facts["encoder"]
    return [
        Entry(
            method=_text(origin["method"] or BASELINE),
            pretext=", ".join(_text(name) for name in origin.get("pretexts", [])),
            readout="frozen" if config.finetune.freeze else "fine-tuned",
            labels=_count(facts["labels_used"]),
            **_scores(metrics, metrics["head"]),
            **common,
        )
    ]


def _probed(metrics: dict[str, Any], method: str, pretext: str, common: dict[str, Any]) -> Entry:
    return Entry(
        method=method,
        pretext=pretext,
        readout=f"{_text(metrics['probe'])} probe",
        labels=_count(metrics["n_train"]),
        **_scores(metrics, common["head"]),
        **common,
    )


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
    if type(value) not in (int, float) or not abs(value) <= LARGEST_SCORE:
        raise ValueError(f"{value!r:.40} where a score should be")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError(f"{value!r:.40} where a number of labels should be")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ValueError(f"{value!r:.40} where a name should be")
    return printable(value)


def _require_one(entries: Sequence[Entry], field: str, what: str) -> None:
    found = sorted({getattr(entry, field) for entry in entries})
    if len(found) > 1:
        listed = ", ".join(value[:12] for value in found)
        raise RequestError(f"the runs were scored on different {what} ({listed}): not comparable")


def _row(key: tuple, members: Sequence[Entry]) -> dict[str, Any]:
    row = dict(zip(KEYS, key, strict=True)) | {"seeds": len(members)}
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
