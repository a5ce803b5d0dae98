"""What the study was to reach, beside what it reached."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from results.pages import table_page


@dataclass(frozen=True)
class Goal:
    """A bound of a quantity, of the mean over the seeds.

    Attributes:
        text: what is to be reached.
        row: of the table.
        readout: of the table; of several, the best one counts.
        bound: at least this; negative: at most its absolute value.
        sky: of the images.
        column: of the table: "value", or "minus_scratch".
    """

    text: str
    row: str
    readouts: tuple[str, ...]
    bound: float
    sky: str = "clean"
    column: str = "value"


PROBES = ("probe, 1 %", "probe, all")
TRANSFERS = {
    **{"model_iii": "Model III", "model_i": "Model I", "noisy": "noisy Model II"},
    "survey": "survey",
}
GOALS = (
    Goal("frozen probe, 1 % of the labels, AUC ≥ 0.97", "object", PROBES[:1], 0.97),
    Goal("frozen probe, all labels, AUC ≥ 0.99", "object", PROBES[1:], 0.99),
    Goal("the same by pairs of `cdm` alone, 1 %, AUC ≥ 0.96", "object_cdm", PROBES[:1], 0.96),
    Goal("by pairs of `cdm` alone, all labels, AUC ≥ 0.985", "object_cdm", PROBES[1:], 0.985),
    *(
        Goal(
            f"fine-tuned, 1 % of the labels, {sky}: AUC ≥ 0.05 above training from scratch",
            "object",
            ("fine-tuned, 1 %",),
            0.05,
            sky,
            "minus_scratch",
        )
        for sky in ("clean", "noisy")
    ),
    Goal("wide prior: frozen probe, 1 %, AUC ≥ 0.87", "object_long", PROBES[:1], 0.87, "wide"),
    Goal("wide prior: frozen probe, all, AUC ≥ 0.93", "object_long", PROBES[1:], 0.93, "wide"),
    Goal("fine-tuned, all labels, AUC ≥ 0.995", "object", ("fine-tuned, all",), 0.995),
    *(
        Goal(
            f"shipped encoder, 1 % of the labels, {title}: AUC ≥ 0.05 above training from scratch",
            "shipped",
            ("probe, 1 %", "fine-tuned, 1 %"),
            0.05,
            sky,
            "minus_scratch",
        )
        for sky, title in TRANSFERS.items()
    ),
    *(
        Goal(
            f"shipped encoder, fine-tuned, all labels, {TRANSFERS[sky]}: AUC ≥ {bound}",
            "shipped",
            ("fine-tuned, all",),
            bound,
            sky,
        )
        for sky, bound in (("model_iii", 0.995), ("model_i", 0.98))
    ),
    Goal("log10 mass, 2,000 labels, R² ≥ 0.95", "object", ("fine-tuned R², 2,000",), 0.95),
    Goal(
        "log10 mass, 2,000 labels, MAE ≤ 0.08 dex",
        "object",
        ("fine-tuned MAE / dex, 2,000",),
        -0.08,
    ),
    Goal(
        "log10 mass, 200 labels, R² ≥ 0.90, frozen or fine-tuned",
        "object",
        ("ridge R², 200", "fine-tuned R², 200"),
        0.90,
    ),
)


def goals_markdown(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the goals as a table in Markdown.

    Args:
        tables: name of a sky -> its scores, a row of the table for each row, seed and readout.
    """
    lines = []
    for goal in GOALS:
        values = _values(tables[goal.sky], goal)
        if values.empty:
            lines.append([goal.text, "not run", "0", "-"])
        else:
            mean, met = values.mean(), "yes" if _is_met(values.mean(), goal.bound) else "no"
            lines.append([goal.text, f"{mean:.4f}", str(len(values)), met])
    return table_page("Goals of the study", ["goal", "reached", "seeds", "met"], lines)


def _values(table: pd.DataFrame, goal: Goal) -> pd.Series:
    """Return the value of each seed, of the readout with the best mean."""
    if goal.column not in table:
        return pd.Series(dtype=float)
    of_row = table[table["row"] == goal.row]
    found = [of_row[of_row["readout"] == each][goal.column].dropna() for each in goal.readouts]
    return max((values for values in found if len(values)), key=pd.Series.mean, default=found[0])


def _is_met(value: float, bound: float) -> bool:
    return value >= bound if bound > 0 else value <= -bound
