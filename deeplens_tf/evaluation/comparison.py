"""Comparison of evaluated runs on one test set: one row for each combination of settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from deeplens_tf.errors import RequestError
from deeplens_tf.evaluation.metrics_file import QUANTITIES
from deeplens_tf.evaluation.run_entries import BASELINE, CONTROL, Entry, read_entries
from deeplens_tf.runs.run_folder import Run

LABEL_COLUMNS = ["method", "augmentations", "encoder", "readout", "labels"]
DIFFERING = "differing"


def compare_runs(runs: Sequence[Run | Path | str]) -> pd.DataFrame:
    """Return the table of `compare` for evaluated runs.

    Args:
        runs: the runs or their folders.

    Raises:
        RequestError: a folder is not a run, was never evaluated, or cannot be compared.
    """
    return compare(
        read_entries([run.folder if isinstance(run, Run) else Path(run) for run in runs])
    )


def compare(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return one row for each combination of settings, averaged over seeds.

    The settings are everything that affects a score except seeds and paths: the run's
    configuration, the data's fingerprint, and both of the runs that made its encoder.

    With one seed the interval is that over test images; with more it is
    Student's interval of the mean over seeds.

    Returns:
        Columns `method`, `augmentations` (of the pretraining), `encoder`, `readout`, `labels`,
        `differing` (the settings and values that distinguish rows with equal values in the first
        five columns), `seeds` (their number) and, for each quantity, its mean, `<quantity>_low`
        and `<quantity>_high`.

    Raises:
        RequestError: the entries were scored on different test sets or on different quantities,
            or two of them are the same run with the same seeds.
    """
    _require_one({entry.test_set for entry in entries}, "test sets")
    _require_one({entry.head for entry in entries}, "quantities")
    groups: dict[tuple, list[Entry]] = {}
    for entry in entries:
        group = groups.setdefault((entry.label, frozenset(entry.settings.items())), [])
        if not _is_known(entry, group):
            group.append(entry)
    rows = [_row(members, _differing(members[0], entries)) for members in groups.values()]
    best_first = next(iter(entries[0].estimates))
    lower_is_better = best_first in ("mae_dex", "mae")
    return pd.DataFrame(rows).sort_values(best_first, ascending=lower_is_better, ignore_index=True)


def quantities_of(table: pd.DataFrame) -> list[str]:
    """Return the quantities that the table of `compare` has columns for."""
    names = dict.fromkeys(name for names in QUANTITIES.values() for name in names)
    return [name for name in names if name in table]


def markdown_table(table: pd.DataFrame) -> str:
    """Return the table of `compare` as Markdown, each quantity with its interval."""
    described = [*LABEL_COLUMNS, *([DIFFERING] if table[DIFFERING].any() else []), "seeds"]
    columns = [*described, *quantities_of(table)]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for _, row in table.iterrows():
        plain = [str(row[key]).replace("|", "\\|") for key in described]
        numbers = [_with_interval(row, quantity) for quantity in quantities_of(table)]
        lines.append("| " + " | ".join(plain + numbers) + " |")
    return "\n".join(lines) + "\n"


def missing_references(entries: Sequence[Entry]) -> list[str]:
    """Return descriptions of the references that the comparison lacks.

    Each result needs a `BASELINE` and a `CONTROL` with the same encoder architecture and the same
    number of labels.
    """
    present = {(entry.method, entry.labels, entry.architecture) for entry in entries}
    needed = dict.fromkeys(
        (name, entry.labels, entry.architecture)
        for entry in entries
        if entry.method != CONTROL
        for name in (BASELINE, CONTROL)
    )
    return [
        f"{name} with {labels} labels ({architecture})"
        for name, labels, architecture in needed
        if (name, labels, architecture) not in present
    ]


def _require_one(found: set[str], what: str) -> None:
    if len(found) > 1:
        listed = ", ".join(value[:12] for value in sorted(found))
        raise RequestError(f"the runs were scored on different {what} ({listed}): not comparable")


def _is_known(entry: Entry, group: Sequence[Entry]) -> bool:
    """Return whether a group has a control already: two runs with one seed share their control.

    Raises:
        RequestError: the group already has the same run.
    """
    for member in group:
        if member.seeds == entry.seeds and entry.method != CONTROL:
            raise RequestError(
                f"{member.run} and {entry.run} are the same run (equal configuration, "
                "encoder, data and seed): give only one of them"
            )
    return any(member.seeds == entry.seeds for member in group)


def _differing(entry: Entry, entries: Sequence[Entry]) -> str:
    """Return the settings and values that distinguish an entry from others of its label."""
    settings_of_label = [other.settings for other in entries if other.label == entry.label]
    keys = dict.fromkeys(key for settings in settings_of_label for key in settings)
    return "; ".join(
        f"{key} {entry.settings.get(key, 'none')}"
        for key in keys
        if len({settings.get(key) for settings in settings_of_label}) > 1
    )


def _row(members: Sequence[Entry], differing: str) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(LABEL_COLUMNS, members[0].label, strict=True))
    row |= {DIFFERING: differing, "seeds": len(members)}
    for quantity, (_, low, high) in members[0].estimates.items():
        values = np.array([member.estimates[quantity].value for member in members])
        if len(members) > 1:
            low, high = _students_interval(values)
        row |= {quantity: values.mean(), f"{quantity}_low": low, f"{quantity}_high": high}
    return row


def _students_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of a few normal draws (Student 1908)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def _with_interval(row: pd.Series, quantity: str) -> str:
    return f"{row[quantity]:.3f} [{row[f'{quantity}_low']:.3f}, {row[f'{quantity}_high']:.3f}]"
