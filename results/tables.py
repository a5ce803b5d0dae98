"""The tables of the study, from the stored predictions: results/<sky>.csv, .md and others."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results.goals import goals_markdown
from results.pages import table_page
from results.rows import ROWS, SKIES, Sky
from results.scores import HARD, differences, score_of, scores
from results.store import (
    SCRATCH,
    SUPERVISED_FEATURES,
    UNTRAINED,
    predictions,
    processor_seconds,
    seeds_of,
)
from results.summary import summary, write_summary

HERE = Path(__file__).parent
ARTICLE = {row.name: row.article for row in ROWS}
SKY_TITLES = {sky.name: sky.title for sky in SKIES}
TITLES = {
    UNTRAINED: "none: the untrained network",
    SCRATCH: ROWS[0].title,
    SUPERVISED_FEATURES: "features of the network trained with all labels",
    **{row.name: row.title for row in ROWS[1:]},
}


@dataclass(frozen=True)
class Readout:
    """A column of the table: a step of a row, and the training from scratch with its labels."""

    step: str
    title: str
    quantity: str
    scratch: str | None = None


READOUTS = (
    Readout("probe-classification-0.01", "probe, 1 %", "macro_auc", "classes-1-test"),
    Readout("probe-classification-0.1", "probe, 10 %", "macro_auc"),
    Readout("probe-classification-1", "probe, all", "macro_auc", "classes-100-test"),
    Readout("probe-classification-1", "probe, axion against cdm", "auc_axion_cdm"),
    Readout("classes-1-test", "fine-tuned, 1 %", "macro_auc", "classes-1-test"),
    Readout("classes-100-test", "fine-tuned, all", "macro_auc", "classes-100-test"),
    Readout("probe-regression-0.0741", "ridge R², 200", "r2", "masses-200-test"),
    Readout("probe-regression-0.741", "ridge R², 2,000", "r2", "masses-2000-test"),
    Readout("masses-200-test", "fine-tuned R², 200", "r2", "masses-200-test"),
    Readout("masses-2000-test", "fine-tuned R², 2,000", "r2", "masses-2000-test"),
    Readout("masses-2000-test", "fine-tuned MAE / dex, 2,000", "mae_dex", "masses-2000-test"),
)


def write_tables() -> None:
    """Write the tables of each sky, the goals beside what was reached, and README's summary."""
    tables = {sky.name: pd.DataFrame(_lines(sky)) for sky in SKIES}
    for name, table in tables.items():
        if len(table):
            table.to_csv(HERE / f"{name}.csv", index=False, float_format="%.4f")
            (HERE / f"{name}.md").write_text(_page(f"Scores: {SKY_TITLES[name]}", table))
    (HERE / "goals.md").write_text(goals_markdown(tables))
    write_summary(summary(tables, TITLES))


def _lines(sky: Sky) -> Iterator[dict[str, Any]]:
    """Yield a line for each row, seed and readout that is stored."""
    for name in TITLES:
        for seed in seeds_of(sky, name):
            steps = predictions(sky, name, seed)
            control, scratch = (predictions(sky, other, seed) for other in (UNTRAINED, SCRATCH))
            seconds = processor_seconds(sky, name, seed)
            for readout in _readouts(sky, steps):
                found = steps[readout.step]
                others = {
                    "control": control.get(readout.step) if name != UNTRAINED else None,
                    "scratch": scratch.get(readout.scratch or "") if name != SCRATCH else None,
                }
                yield {
                    **{"row": name, "seed": seed, "readout": readout.title},
                    **asdict(score_of(scores(found), readout.quantity)),
                    **_minus(found, others, readout),
                    "seconds": seconds,
                }


def _readouts(sky: Sky, steps: Collection[str]) -> Iterator[Readout]:
    """Yield the columns for which a row has predictions."""
    for readout in (each for each in READOUTS if each.step in steps):
        if set(HARD) <= set(sky.classes) or readout.quantity != "auc_axion_cdm":
            yield readout


def _minus(
    found: pd.DataFrame, others: dict[str, pd.DataFrame | None], readout: Readout
) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, theirs in others.items():
        if theirs is not None:
            score = score_of(differences(found, theirs), readout.quantity)
            result |= {
                f"minus_{name}": score.value,
                f"minus_{name}_low": score.low,
                f"minus_{name}_high": score.high,
            }
    return result


def _page(title: str, table: pd.DataFrame) -> str:
    """Return the means over the seeds, and the smallest and largest where there are several."""
    found, rows = set(table["readout"]), set(table["row"])
    titles = [readout.title for readout in READOUTS if readout.title in found]
    head = ["row", "pretraining", "seeds", *titles, "processor minutes", "the article's own"]
    lines = []
    for name, words in ((name, words) for name, words in TITLES.items() if name in rows):
        of_row = table[table["row"] == name]
        seeds = of_row["seed"].nunique()
        cells = [_cell(of_row[of_row["readout"] == each], seeds) for each in titles]
        minutes = f"{of_row['seconds'].mean() / 60:.0f}" if of_row["seconds"].any() else "-"
        ends = [minutes, ARTICLE.get(name, "-")]
        lines.append([f"`{name}`", words, str(seeds), *cells, *ends])
    return table_page(title, head, lines)


def _cell(of_readout: pd.DataFrame, seeds: int) -> str:
    """Return the mean and the range over the seeds, or the value and interval of a single seed."""
    if of_readout.empty:
        return "-"
    values = of_readout["value"]
    if len(values) == 1:
        row = of_readout.iloc[0]
        text = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    else:
        text = f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
    return text if len(values) == seeds else f"{text}, of {len(values)}"
