"""Other skies: what a network loses on them, and what training under varied skies saves.

    python -m results.other_skies [usual] [varied] [--seed 0]

trains the encoder `object` on noisy images, and on the same lenses under skies that vary from
image to image, with a linear head on the frozen encoder, and as a whole. Each network is scored on
the same test lenses under six skies. It writes results/other_skies.md; the predictions are kept as
those of the other tables are.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from results.budgets import chosen_settings
from results.finetunings import FINETUNINGS, Finetuning, finetune_step, row_folder
from results.pages import table_page
from results.row_steps import TEST_IMAGES, TEST_SEED, data_steps, pretraining
from results.rows import ROWS, SKIES, Row, Sky
from results.scores import differences, score_of, scores
from results.steps import WORK, Step, run_step
from results.store import collect, predictions

USUAL = "usual"
# Name of a sky -> options of the simulation, beside the noise.
TEST_SKIES = {
    USUAL: (),
    "psf-wider": ("--psf-scale", "1.2"),
    "psf-narrower": ("--psf-scale", "0.8"),
    "noise-doubled": ("--noise-scale", "2"),
    "source-index-4": ("--source-index", "4"),
    "lens-off-centre": ("--lens-offset-pixels", "2"),
}
TITLES = {
    USUAL: "as in training",
    "psf-wider": "PSF 20 % wider",
    "psf-narrower": "PSF 20 % narrower",
    "noise-doubled": "noise doubled",
    "source-index-4": "sources of index 4",
    "lens-off-centre": "lens 2 pixels off the centre",
}
VARIED = (
    *("--psf-scale", "0.75:1.25", "--noise-scale", "0.5:2.5"),
    *("--source-index", "0.5:5", "--lens-offset-pixels", "0:3"),
)
TRAININGS = {
    USUAL: Sky("noisy", options=("--noise",)),
    "varied": Sky("varied", options=("--noise", *VARIED)),
}
# Where the predictions are kept: the same lenses, whatever the sky.
STORE = Sky("other_skies")
OBJECT = next(row for row in ROWS if row.name == "object")
FROZEN = Finetuning("frozen", "classification", 1.0)
WHOLE = next(each for each in FINETUNINGS if each.name == "classes-100")
FROZEN_SETTINGS = {
    **{"finetune.freeze": "true", "optimizer.learning_rate": 0.003, "train.epochs": 30}
}
PAGE = Path(__file__).with_name("other_skies.md")


def simulation_steps() -> Iterator[Step]:
    """Return the simulations of the test lenses under each sky."""
    for name, options in TEST_SKIES.items():
        out = ("--out", str(_folder(name)), "--noise", *options, "--split", "test")
        count = ("--count", str(TEST_IMAGES), "--seed", str(TEST_SEED))
        yield Step(WORK / STORE.name / f"{name}.json", "simulate", (*out, *count))


def training_steps(training: str, seed: int) -> Iterator[Step]:
    """Return the trainings under a sky, and the evaluations of what they give under each sky."""
    sky = TRAININGS[training]
    yield from data_steps(OBJECT, sky)
    yield pretraining(OBJECT, sky, seed)
    settings = {FROZEN: FROZEN_SETTINGS, WHOLE: chosen_settings(OBJECT, SKIES[0], WHOLE.name)}
    for finetuning, chosen in settings.items():
        step = finetune_step(OBJECT, sky, seed, finetuning, chosen)
        yield step
        for name in TEST_SKIES:
            words = ("--run", str(step.record.with_suffix("")), "--data", f"{_folder(name)}_test")
            record = row_folder(Row(training, "", None), STORE, seed) / f"{finetuning.name}-{name}"
            yield Step(record.with_suffix(".json"), "evaluate", words)


def write_page(seed: int) -> None:
    """Write the table of what is stored: macro AUC, and what another sky takes of it."""
    titles = ["trained on", "network", *TITLES.values()]
    lines = []
    for training in TRAININGS:
        found = predictions(STORE, training, seed)
        for network in (FROZEN.name, WHOLE.name):
            tables = {name: found.get(f"{network}-{name}") for name in TEST_SKIES}
            cells = [_cell(table, tables[USUAL]) for table in tables.values()]
            lines.append([training, network, *cells])
    PAGE.write_text(table_page("Other skies: macro AUC, and what a sky takes of it", titles, lines))


def _cell(found: pd.DataFrame | None, usual: pd.DataFrame | None) -> str:
    """Return the area; of another sky than the usual one with its difference from that."""
    if found is None or usual is None:
        return "-"
    value = score_of(scores(found), "macro_auc")
    if found is usual:
        return str(value)
    minus = score_of(differences(found, usual), "macro_auc")
    return f"{value.value:.3f}; {minus.value:+.3f} [{minus.low:+.3f}, {minus.high:+.3f}]"


def _folder(name: str) -> Path:
    return Path("data/results") / STORE.name / name


def main(argv: Sequence[str]) -> None:
    """Make the rows of the command line."""
    parser = argparse.ArgumentParser(prog="python -m results.other_skies")
    parser.add_argument("trainings", nargs="*", choices=[*TRAININGS, []], help="without: none")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    for training in arguments.trainings:
        steps = list(training_steps(training, arguments.seed))
        for step in (*simulation_steps(), *steps):
            run_step(step)
        kept = [step for step in steps if step.stage == "evaluate"]
        collect(STORE, training, arguments.seed, kept)
    write_page(arguments.seed)


if __name__ == "__main__":
    main(sys.argv[1:])
