"""The commands of a row, in order."""

from collections.abc import Collection, Iterator

from results.budgets import chosen_settings
from results.finetunings import (
    FINETUNINGS,
    LENSES_OF_A_CLASS,
    Finetuning,
    finetune_step,
    row_folder,
)
from results.rows import Row, Sky
from results.steps import WORK, Step, as_words

# Used nowhere else; the first one is that of the training images.
TRAIN_SEED, TEST_SEED = 20, 7919
LENSES = 9000  # of a pretraining, in all of its classes together
TEST_IMAGES = 1000  # of a class
FROZEN = "frozen"
READOUTS = (FROZEN, *(finetuning.name for finetuning in FINETUNINGS))
SUPERVISED = "classes-100"  # of the row from random weights: its features are probed too
PROBED = (
    *(("classification", fraction) for fraction in (0.01, 0.1, 1.0)),
    *(("regression", lenses / LENSES_OF_A_CLASS) for lenses in (200, 2000)),
)


def data_steps(row: Row, sky: Sky) -> Iterator[Step]:
    """Return the simulations that a row needs."""
    for classes in dict.fromkeys(((), row.classes)):
        folder, names = sky.folder(classes), classes or sky.classes
        words = ("--out", str(folder), "--classes", ",".join(names), *sky.options)
        count = ("--count", str(LENSES // len(names)), "--seed", str(TRAIN_SEED))
        arguments = (*words, *count, *sky.pairs)
        yield Step(WORK / sky.name / f"{folder.name}.json", "simulate", arguments)
    words = ("--out", str(sky.folder()), *sky.options, "--split", "test")
    count = ("--count", str(TEST_IMAGES), "--seed", str(TEST_SEED))
    yield Step(WORK / sky.name / "test.json", "simulate", (*words, *count))


def row_steps(row: Row, sky: Sky, seed: int, readouts: Collection[str]) -> Iterator[Step]:
    """Return the trainings and evaluations of a row with one seed.

    Args:
        row: of the table.
        sky: of the images.
        seed: of all trainings.
        readouts: of `READOUTS`.
    """
    if row.config is not None:
        yield pretraining(row, sky, seed)
    if FROZEN in readouts and not row.from_scratch:
        yield from _probes(row, sky, seed, str(row_folder(row, sky, seed) / "pretrain"))
    for finetuning in (each for each in FINETUNINGS if each.name in readouts):
        yield from _finetuning(row, sky, seed, finetuning)


def _finetuning(row: Row, sky: Sky, seed: int, finetuning: Finetuning) -> Iterator[Step]:
    settings = chosen_settings(row, sky, finetuning.name)
    step = finetune_step(row, sky, seed, finetuning, settings)
    yield step
    run = str(step.record.with_suffix(""))
    record = row_folder(row, sky, seed) / f"{finetuning.name}-test.json"
    yield Step(record, "evaluate", ("--run", run))
    if row.from_scratch and finetuning.name == SUPERVISED:  # what its features contain
        yield from _probes(row, sky, seed, run)


def pretraining(row: Row, sky: Sky, seed: int) -> Step:
    """Return the pretraining of a row."""
    run = row_folder(row, sky, seed) / "pretrain"
    words = ("--config", f"results/configs/{row.config}.yaml", *_plugin(row))
    where = ("--data", str(sky.folder(row.classes)), "--run-dir", str(run))
    settings = as_words({**row.settings, **sky.settings, "seed": seed})
    return Step(run.with_suffix(".json"), "pretrain", (*words, *settings, *where))


def _probes(row: Row, sky: Sky, seed: int, run: str) -> Iterator[Step]:
    for head, fraction in (each for each in PROBED if each[0] in sky.heads):
        words = ("--run", run, "--probe", "linear", "--head", head, *_plugin(row))
        own = row.settings if row.shipped else {}
        settings = as_words({"finetune.fraction": fraction, **sky.settings, **own})
        options = ("--data", str(sky.folder()), *settings)
        record = row_folder(row, sky, seed) / f"probe-{head}-{fraction:.3g}.json"
        yield Step(record, "evaluate", (*words, *options))


def _plugin(row: Row) -> tuple[str, ...]:
    return ("--plugin", row.plugin) if row.plugin else ()
