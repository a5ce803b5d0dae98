"""The settings of each fine-tuning, chosen on the validation split with the first seed.

    python -m results.budgets [classes-1 ...]

fine-tunes with each of the candidates, from random weights and from the encoder of the row
`object`, and writes those with the best validation score to budgets.yaml. No test image is read.
The rows then use the same runs.
"""

import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from results.finetunings import FINETUNINGS, Finetuning, finetune_step
from results.rows import ROWS, SKIES
from results.steps import run_step

CHOSEN = Path(__file__).with_name("budgets.yaml")
SKY = SKIES[0]
STARTS = {
    "random weights": next(row for row in ROWS if row.name == "scratch"),
    "encoder": next(row for row in ROWS if row.name == "object"),
}
HEADER = (
    "# Written by `python -m results.budgets`: scores on the validation split, and the choice.\n"
)
Settings = Mapping[str, Any]


def _rate(rate: float, epochs: int) -> Settings:
    return {"optimizer.learning_rate": rate, "train.epochs": epochs}


def _head_first(rate: float, epochs: int, head_epochs: int, encoder_rate: float) -> Settings:
    own = {"finetune.head_epochs": head_epochs, "finetune.encoder_rate": encoder_rate}
    return {**_rate(rate, epochs), **own}


# Where the best rate was the smallest one tried, a smaller one was added.
CANDIDATES: Mapping[str, Mapping[str, tuple[Settings, ...]]] = {
    "classes-1": {
        "random weights": (
            *(_rate(rate, 300) for rate in (1e-3, 3e-4, 1e-4)),
            _rate(1e-3, 1000),
        ),
        "encoder": (
            *(_rate(rate, 300) for rate in (1e-3, 1e-4, 3e-5)),
            _head_first(1e-3, 300, 100, 0.03),
        ),
    },
    "classes-100": {
        "random weights": (_rate(1e-3, 15), _rate(1e-3, 30), _rate(3e-4, 30)),
        "encoder": (_rate(1e-3, 15), _rate(3e-4, 15), _rate(1e-4, 15)),
    },
    "masses-200": {
        "random weights": (_rate(1e-3, 200), _rate(3e-4, 200), _rate(1e-3, 600)),
        "encoder": (_rate(1e-3, 200), _rate(1e-4, 200), _head_first(1e-3, 200, 50, 0.1)),
    },
    "masses-2000": {
        "random weights": (_rate(1e-3, 60), _rate(1e-3, 120)),
        "encoder": (_rate(1e-3, 60), _rate(3e-4, 60), _head_first(1e-3, 60, 10, 0.3)),
    },
}


def chosen_settings(name: str, *, from_random_weights: bool) -> Settings:
    """Return the settings of a fine-tuning, such as {"train.epochs": 20}.

    Args:
        name: of the fine-tuning, such as "classes-1".
        from_random_weights: whether it starts from them, not from a pretrained encoder.

    Raises:
        SystemExit: nothing has been chosen yet.
    """
    if not CHOSEN.is_file():
        raise SystemExit("no budgets yet: run python -m results.budgets, which takes hours")
    start = "random weights" if from_random_weights else "encoder"
    chosen: Settings = yaml.safe_load(CHOSEN.read_text())[name][start]["chosen"]
    return chosen


def choose(names: Sequence[str]) -> None:
    """Fine-tune with the candidates and write each choice when it is made.

    Args:
        names: of fine-tunings; the choices of the others stay as they are.
    """
    for finetuning in (each for each in FINETUNINGS if each.name in names):
        starts = {start: _choice(finetuning, start) for start in STARTS}
        table = yaml.safe_load(CHOSEN.read_text()) if CHOSEN.is_file() else {}
        CHOSEN.write_text(HEADER + yaml.safe_dump({**table, finetuning.name: starts}))


def _choice(finetuning: Finetuning, start: str) -> dict[str, Any]:
    tried: list[dict[str, Any]] = []
    for settings in CANDIDATES[finetuning.name][start]:
        step = finetune_step(STARTS[start], SKY, 0, finetuning, settings)
        run_step(step)
        score = round(finetuning.validation_score(step.record.with_suffix("")), 4)
        tried.append({"settings": dict(settings), "score": score})
    best = max(tried, key=itemgetter("score"))
    return {"chosen": dict(best["settings"]), "tried": tried}


if __name__ == "__main__":
    choose(sys.argv[1:] or [finetuning.name for finetuning in FINETUNINGS])
