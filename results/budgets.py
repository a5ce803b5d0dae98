"""The settings of each fine-tuning, chosen on the validation split with the first seed.

    python -m results.budgets

fine-tunes with each of the candidates, from random weights and from the encoder of the row
`object`, and writes those with the best validation score to budgets.yaml. No test image is read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from results.finetunings import FINETUNINGS, finetune_step
from results.rows import SKIES
from results.steps import WORK, run_step

CHOSEN = Path(__file__).with_name("budgets.yaml")
SKY = SKIES[0]
STARTS = {"random weights": "none", "encoder": str(WORK / SKY.name / "object/seed-0/pretrain")}
HEADER = (
    "# Written by `python -m results.budgets`: scores on the validation split, and the choice.\n"
)
Settings = Mapping[str, Any]


def _rate(rate: float, epochs: int) -> Settings:
    return {"optimizer.learning_rate": rate, "train.epochs": epochs}


def _head_first(rate: float, epochs: int, head_epochs: int, encoder_rate: float) -> Settings:
    own = {"finetune.head_epochs": head_epochs, "finetune.encoder_rate": encoder_rate}
    return {**_rate(rate, epochs), **own}


CANDIDATES: Mapping[str, Mapping[str, tuple[Settings, ...]]] = {
    "classes-1": {
        "random weights": (_rate(1e-3, 300), _rate(3e-4, 300), _rate(1e-3, 1000)),
        "encoder": (_rate(1e-3, 300), _rate(1e-4, 300), _head_first(1e-3, 300, 100, 0.03)),
    },
    "classes-100": {
        "random weights": (_rate(1e-3, 20), _rate(1e-3, 40)),
        "encoder": (_rate(1e-3, 20), _head_first(1e-3, 20, 2, 0.3)),
    },
    "masses-200": {
        "random weights": (_rate(1e-3, 200), _rate(1e-3, 600)),
        "encoder": (_rate(1e-3, 200), _head_first(1e-3, 200, 50, 0.1)),
    },
    "masses-2000": {
        "random weights": (_rate(1e-3, 60), _rate(1e-3, 120)),
        "encoder": (_rate(1e-3, 60), _head_first(1e-3, 60, 10, 0.3)),
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


def choose() -> None:
    """Fine-tune with all candidates and write the choice."""
    table: dict[str, dict[str, Any]] = {}
    for name, start, scores in _scores():
        best = max(range(len(scores)), key=scores.__getitem__)
        candidates = CANDIDATES[name][start]
        tried = [{**each, "score": score} for each, score in zip(candidates, scores, strict=True)]
        table.setdefault(name, {})[start] = {"chosen": dict(candidates[best]), "tried": tried}
    CHOSEN.write_text(HEADER + yaml.safe_dump(table, sort_keys=False))


def _scores() -> Iterator[tuple[str, str, list[float]]]:
    for finetuning in FINETUNINGS:
        for start, encoder in STARTS.items():
            scores = []
            for number, settings in enumerate(CANDIDATES[finetuning.name][start]):
                place = f"{finetuning.name}-{encoder == 'none'}-{number}"
                run = WORK / SKY.name / "budgets" / place
                run_step(finetune_step(run, finetuning, encoder, settings, SKY, seed=0))
                scores.append(round(finetuning.validation_score(run), 4))
            yield finetuning.name, start, scores


if __name__ == "__main__":
    choose()
