"""The settings of each fine-tuning, chosen on the validation split with the first seed.

    python -m results.budgets [classes-1 ...] [--rows scratch object ...] [--sky clean]

fine-tunes with each of the candidates, and writes those with the best validation score to
budgets.yaml. No test image is read. The rows then use the same runs.
"""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from results.finetunings import FINETUNINGS, Finetuning, finetune_step
from results.rows import ROWS, SKIES, Row, Sky
from results.steps import run_step

CHOSEN = Path(__file__).with_name("budgets.yaml")
SEED = 0
# Rows that choose for themselves; the others take the choice of the last one.
CHOOSING = ("scratch", "image", "object")
HEADER = (
    "# Written by `python -m results.budgets`: scores on the validation split, and the choice.\n"
)
Settings = Mapping[str, Any]


def _rate(rate: float, epochs: int) -> Settings:
    return {"optimizer.learning_rate": rate, "train.epochs": epochs}


def _head_first(rate: float, epochs: int, head_epochs: int, encoder_rate: float) -> Settings:
    own = {"finetune.head_epochs": head_epochs, "finetune.encoder_rate": encoder_rate}
    return {**_rate(rate, epochs), **own}


_RATES = (1e-3, 3e-4, 1e-4, 3e-5)
# For each fine-tuning those of random weights, and those of a pretrained encoder.
CANDIDATES: Mapping[str, tuple[tuple[Settings, ...], tuple[Settings, ...]]] = {
    "classes-1": (
        (*(_rate(rate, 300) for rate in _RATES[:3]), _rate(1e-3, 1000)),
        (*(_rate(rate, 300) for rate in _RATES), _head_first(1e-3, 300, 100, 0.03)),
    ),
    "classes-100": (
        (_rate(1e-3, 15), _rate(1e-3, 30), _rate(3e-4, 30)),
        (_rate(1e-3, 15), _rate(3e-4, 15), _rate(1e-4, 15)),
    ),
    "masses-200": (
        (_rate(1e-3, 200), _rate(3e-4, 200), _rate(1e-3, 600)),
        (
            *(_rate(rate, 200) for rate in (1e-3, 1e-4)),
            _head_first(1e-3, 200, 50, 0.1),
            _rate(1e-3, 600),
        ),
    ),
    "masses-2000": (
        (_rate(1e-3, 60), _rate(1e-3, 120)),
        (_rate(1e-3, 60), _rate(3e-4, 60), _rate(1e-3, 120)),
    ),
}


def chosen_settings(row: Row, sky: Sky, finetuning: str) -> Settings:
    """Return the settings of a fine-tuning, such as {"train.epochs": 20}.

    Args:
        row: of the table.
        sky: of the images.
        finetuning: its name, such as "classes-1".

    Raises:
        SystemExit: nothing has been chosen yet.
    """
    name = row.name if row.name in CHOOSING else CHOOSING[-1]
    table = _table()
    for own in sky.budgets or (sky.name,):
        choice = table.get(own, {}).get(finetuning, {}).get(name)
        if choice is not None:
            chosen: Settings = choice["chosen"]
            return chosen
    options = f"{finetuning} --rows {name} --sky {sky.name}"
    raise SystemExit(f"no budget yet: run python -m results.budgets {options}")


def choose(sky: Sky, names: Collection[str], rows: Collection[str]) -> None:
    """Fine-tune with the candidates and write each choice when it is made.

    Args:
        sky: of the images.
        names: of fine-tunings.
        rows: names of rows, of `CHOOSING`; choices that are not asked for stay as they are.
    """
    for finetuning in (each for each in FINETUNINGS if each.name in names):
        for row in (each for each in ROWS if each.name in rows):
            choice, table = _choice(row, sky, finetuning), _table()
            table.setdefault(sky.name, {}).setdefault(finetuning.name, {})[row.name] = choice
            CHOSEN.write_text(HEADER + yaml.safe_dump(table, sort_keys=False))


def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(CHOSEN.read_text()) if CHOSEN.is_file() else {}
    return table


def _choice(row: Row, sky: Sky, finetuning: Finetuning) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []
    for settings in CANDIDATES[finetuning.name][not row.from_scratch]:
        step = finetune_step(row, sky, SEED, finetuning, settings)
        run_step(step)
        score = round(finetuning.validation_score(step.record.with_suffix("")), 4)
        tried.append({"settings": dict(settings), "score": score})
    best = max(tried, key=itemgetter("score"))
    return {"chosen": dict(best["settings"]), "tried": tried}


def main(argv: Sequence[str]) -> None:
    """Choose what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m results.budgets", description=__doc__)
    names, skies = [finetuning.name for finetuning in FINETUNINGS], {sky.name: sky for sky in SKIES}
    parser.add_argument("names", nargs="*", choices=[*names, []])
    parser.add_argument("--rows", nargs="+", choices=CHOOSING, default=CHOOSING)
    parser.add_argument("--sky", choices=skies, default=SKIES[0].name)
    arguments = parser.parse_args(argv)
    choose(skies[arguments.sky], arguments.names or names, arguments.rows)


if __name__ == "__main__":
    main(sys.argv[1:])
