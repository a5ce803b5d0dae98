"""The fine-tunings of a row: what is predicted, with how many labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results.rows import ALL, Sky
from results.steps import Step, as_words

NETWORK = {"data.image_size": 32, "data.fit": "crop", "encoder.patch_size": 4}
LENSES_OF_A_CLASS = 2700  # in the training split


@dataclass(frozen=True)
class Finetuning:
    """A fine-tuning of the whole network.

    Attributes:
        name: part of the names of its runs.
        head: "classification" or "regression".
        fraction: of the labelled lenses.
    """

    name: str
    head: str
    fraction: float

    def validation_score(self, run: Path) -> float:
        """Return the best score of a run on its validation split; higher is better."""
        history = pd.read_csv(run / "history.csv")
        if self.head == "classification":
            return float(history["val_auc"].max())
        return -float(history["val_mae_dex"].min())


FINETUNINGS = (
    Finetuning("classes-1", "classification", 0.01),
    Finetuning("classes-100", "classification", 1.0),
    Finetuning("masses-200", "regression", 200 / LENSES_OF_A_CLASS),
    Finetuning("masses-2000", "regression", 2000 / LENSES_OF_A_CLASS),
)


def finetune_step(
    run: Path,
    finetuning: Finetuning,
    encoder: str,
    settings: Mapping[str, Any],
    sky: Sky,
    seed: int,
) -> Step:
    """Return the command of a fine-tuning.

    Args:
        run: folder of the run.
        finetuning: what is predicted.
        encoder: a run folder, or "none" for random weights.
        settings: rate, epochs and others.
        sky: of the images.
        seed: of the run.
    """
    words = ("--head", finetuning.head, "--encoder", encoder, "--fraction")
    chosen = as_words({**NETWORK, **settings, "seed": seed})
    where = ("--data", str(sky.folder(ALL)), "--run-dir", str(run))
    arguments = (*words, f"{finetuning.fraction:.6g}", *chosen, *where)
    return Step(run.with_suffix(".json"), "finetune", arguments)
