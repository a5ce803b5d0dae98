"""The tables of the study, from the reports of its runs: results/<sky>.csv and results/<sky>.md."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results.finetunings import row_folder
from results.rows import ROWS, SKIES, Sky
from results.scores import CONTROL, Score, differences, read_predictions, scores
from results.steps import WORK

HERE = Path(__file__).parent
SCRATCH, UNTRAINED = ROWS[0].name, "untrained"


@dataclass(frozen=True)
class Readout:
    """A column of the table: a step of a row, and the training from scratch with its labels."""

    step: str
    title: str
    quantity: str
    scratch: str | None


READOUTS = (
    Readout("probe-classification-0.01", "probe, 1 %", "macro_auc", "classes-1-test"),
    Readout("probe-classification-0.1", "probe, 10 %", "macro_auc", None),
    Readout("probe-classification-1", "probe, all", "macro_auc", "classes-100-test"),
    Readout("probe-classification-1", "probe, axion against cdm", "auc_axion_cdm", None),
    Readout("classes-1-test", "fine-tuned, 1 %", "macro_auc", "classes-1-test"),
    Readout("classes-100-test", "fine-tuned, all", "macro_auc", "classes-100-test"),
    Readout("probe-regression-0.0741", "ridge R², 200", "r2", "masses-200-test"),
    Readout("probe-regression-0.741", "ridge R², 2,000", "r2", "masses-2000-test"),
    Readout("masses-200-test", "fine-tuned R², 200", "r2", "masses-200-test"),
    Readout("masses-2000-test", "fine-tuned R², 2,000", "r2", "masses-2000-test"),
    Readout("masses-2000-test", "fine-tuned MAE / dex, 2,000", "mae_dex", "masses-2000-test"),
)


def write_tables() -> None:
    """Write the tables of each sky that has results."""
    for sky in SKIES:
        table = pd.DataFrame(_lines(sky))
        if len(table):
            table.to_csv(HERE / f"{sky.name}.csv", index=False, float_format="%.4f")
            (HERE / f"{sky.name}.md").write_text(_markdown(table))


def _lines(sky: Sky) -> Iterator[dict[str, Any]]:
    """Yield a line for each row, seed and readout; the control's are those of the first row."""
    controlled: set[tuple[int, str]] = set()
    for row in ROWS:
        for folder in sorted((WORK / sky.name / row.name).glob("seed-*")):
            seed = int(folder.name.removeprefix("seed-"))
            seconds = _processor_seconds(folder)
            for readout in READOUTS:
                found = read_predictions(folder / f"{readout.step}.json")
                if found is None:
                    continue
                key = {"row": row.name, "seed": seed, "readout": readout.title}
                minus = _differences(found, readout, sky, seed, of_scratch=row.name == SCRATCH)
                yield {**key, **_numbers(found, "", readout), **minus, "seconds": seconds}
                probed = f"{CONTROL}predicted" in found
                if probed and row.config and (seed, readout.title) not in controlled:
                    controlled.add((seed, readout.title))
                    yield {**key, "row": UNTRAINED, **_numbers(found, CONTROL, readout)}


def _numbers(found: pd.DataFrame, prefix: str, readout: Readout) -> dict[str, Any]:
    return asdict(_chosen(scores(found, prefix), readout))


def _differences(
    found: pd.DataFrame, readout: Readout, sky: Sky, seed: int, *, of_scratch: bool
) -> dict[str, float]:
    """Return the differences to the control and to scratch, where there are such."""
    others: dict[str, tuple[pd.DataFrame, str]] = {}
    if f"{CONTROL}predicted" in found:
        others["control"] = found, CONTROL
    if readout.scratch and not of_scratch:
        record = row_folder(ROWS[0], sky, seed) / f"{readout.scratch}.json"
        if (reference := read_predictions(record)) is not None:
            others["scratch"] = reference, ""
    result: dict[str, float] = {}
    for name, (theirs, prefix) in others.items():
        score = _chosen(differences(found, "", theirs, prefix), readout)
        pairs = zip(("value", "low", "high"), (score.value, score.low, score.high), strict=True)
        result |= {f"minus_{name}_{key}": number for key, number in pairs}
    return result


def _chosen(found: Iterator[Score], readout: Readout) -> Score:
    return next(score for score in found if score.quantity == readout.quantity)


def _processor_seconds(folder: Path) -> float:
    records = (json.loads(path.read_text()) for path in folder.glob("*.json"))
    return sum(record["processor_seconds"] for record in records)


def _markdown(table: pd.DataFrame) -> str:
    """Return the means over the seeds, and the smallest and largest where there are several."""
    titles = [readout.title for readout in READOUTS]
    lines = ["| row | seeds | " + " | ".join(titles) + " |", "|---" * (len(titles) + 2) + "|"]
    for name in dict.fromkeys([UNTRAINED, *(row.name for row in ROWS)]):
        of_row = table[table["row"] == name]
        if len(of_row):
            cells = [_cell(of_row[of_row["readout"] == title]) for title in titles]
            seeds = str(of_row["seed"].nunique())
            lines.append("| " + " | ".join((f"`{name}`", seeds, *cells)) + " |")
    return "\n".join(lines) + "\n"


def _cell(of_readout: pd.DataFrame) -> str:
    if of_readout.empty:
        return "-"
    values = of_readout["value"]
    if len(values) == 1:
        row = of_readout.iloc[0]
        return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
