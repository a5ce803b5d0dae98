"""The fine-tunings of a row: what is predicted, with how many labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results.rows import Row, Sky
from results.steps import WORK, Step, as_words

NETWORK = {"data.image_size": 32, "data.fit": "crop", "encoder.patch_size": 4}
LENSES_OF_A_CLASS = 2700  # in the training split


@dataclass(frozen=True)
class Finetuning:
    """A fine-tuning of the whole network.

    Attributes:
        name: part of the names of its runs.
        head: "classification" or "regression".
        fraction: of the labelled lenses.
        validate_every_epochs: rarer where epochs are short.
    """

    name: str
    head: str
    fraction: float
    validate_every_epochs: int = 1

    def validation_score(self, run: Path) -> float:
        """Return the score of a run's model on its validation split; higher is better.

        The model is that of the epoch with the lowest loss.
        """
        history = pd.read_csv(run / "history.csv")
        kept = history.iloc[history["val_loss"].argmin()]
        return float(kept["val_auc"] if self.head == "classification" else -kept["val_mae_dex"])


FINETUNINGS = (
    Finetuning("classes-1", "classification", 0.01, 10),
    Finetuning("classes-100", "classification", 1.0),
    Finetuning("masses-200", "regression", 200 / LENSES_OF_A_CLASS, 5),
    Finetuning("masses-2000", "regression", 2000 / LENSES_OF_A_CLASS),
)


def row_folder(row: Row, sky: Sky, seed: int) -> Path:
    """Return the folder of the runs of a row with one seed."""
    return WORK / sky.name / row.name / f"seed-{seed}"


def finetune_step(
    row: Row, sky: Sky, seed: int, finetuning: Finetuning, settings: Mapping[str, Any]
) -> Step:
    """Return the command of a fine-tuning; its run's name tells the settings.

    Args:
        row: whose encoder is fine-tuned, or which starts from random weights.
        sky: of the images.
        seed: of the run.
        finetuning: what is predicted.
        settings: rate, epochs and others.
    """
    folder = row_folder(row, sky, seed)
    chosen = (f"{key.rpartition('.')[2]}-{value}" for key, value in settings.items())
    run = folder / "-".join((finetuning.name, *chosen))
    encoder = str(folder / "pretrain") if not row.from_scratch else "none"
    words = ("--head", finetuning.head, "--encoder", encoder, "--fraction")
    every = {"train.validate_every_epochs": finetuning.validate_every_epochs}
    uses = {**NETWORK, **sky.settings, **(row.settings if row.shipped else {})}
    others = as_words({**uses, **settings, **every, "seed": seed})
    where = ("--data", str(sky.folder()), "--run-dir", str(run))
    arguments = (*words, f"{finetuning.fraction:.6g}", *others, *where)
    return Step(folder / f"{run.name}.json", "finetune", arguments)
