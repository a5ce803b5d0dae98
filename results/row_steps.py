"""The commands of a row, in order."""

from collections.abc import Iterator

from results.budgets import chosen_settings
from results.finetunings import FINETUNINGS, LENSES_OF_A_CLASS, finetune_step, row_folder
from results.rows import ALL, Row, Sky
from results.steps import WORK, Step, as_words

# Used nowhere else; the first one is that of the training images.
TRAIN_SEED, TEST_SEED = 20, 7919
LENSES = 9000  # of a pretraining, in all of its classes together
TEST_IMAGES = 1000  # of a class
SUPERVISED = "classes-100"  # of the row from random weights: its features are probed too
PROBED = (
    *(("classification", fraction) for fraction in (0.01, 0.1, 1.0)),
    *(("regression", lenses / LENSES_OF_A_CLASS) for lenses in (200, 2000)),
)


def data_steps(row: Row, sky: Sky) -> Iterator[Step]:
    """Return the simulations that a row needs."""
    for classes in dict.fromkeys((ALL, row.classes)):
        folder = sky.folder(classes)
        words = ("--out", str(folder), "--classes", ",".join(classes), *sky.options)
        count = ("--count", str(LENSES // len(classes)), "--seed", str(TRAIN_SEED))
        pairs = ("--views-per-lens", "2")
        yield Step(WORK / sky.name / f"{folder.name}.json", "simulate", (*words, *count, *pairs))
    words = ("--out", str(sky.folder(ALL)), *sky.options, "--split", "test")
    count = ("--count", str(TEST_IMAGES), "--seed", str(TEST_SEED))
    yield Step(WORK / sky.name / "test.json", "simulate", (*words, *count))


def frozen_steps(row: Row, sky: Sky, seed: int) -> Iterator[Step]:
    """Return the pretraining of a row with one seed, and the probes of its frozen features."""
    if row.config is not None:
        yield _pretraining(row, sky, seed)
        yield from _probes(row, sky, seed, str(row_folder(row, sky, seed) / "pretrain"))


def finetuned_steps(row: Row, sky: Sky, seed: int) -> Iterator[Step]:
    """Return the fine-tunings of a row with one seed, and their evaluations."""
    for finetuning in FINETUNINGS:
        settings = chosen_settings(finetuning.name, from_random_weights=row.config is None)
        step = finetune_step(row, sky, seed, finetuning, settings)
        yield step
        run = str(step.record.with_suffix(""))
        record = row_folder(row, sky, seed) / f"{finetuning.name}-test.json"
        yield Step(record, "evaluate", ("--run", run))
        if row.config is None and finetuning.name == SUPERVISED:  # what its features contain
            yield from _probes(row, sky, seed, run)


def _pretraining(row: Row, sky: Sky, seed: int) -> Step:
    run = row_folder(row, sky, seed) / "pretrain"
    words = ("--config", f"results/configs/{row.config}.yaml", *_plugin(row))
    where = ("--data", str(sky.folder(row.classes)), "--run-dir", str(run))
    settings = as_words({**row.settings, "seed": seed})
    return Step(run.with_suffix(".json"), "pretrain", (*words, *settings, *where))


def _probes(row: Row, sky: Sky, seed: int, run: str) -> Iterator[Step]:
    for head, fraction in PROBED:
        words = ("--run", run, "--probe", "linear", "--head", head, *_plugin(row))
        options = ("--data", str(sky.folder(ALL)), *as_words({"finetune.fraction": fraction}))
        record = row_folder(row, sky, seed) / f"probe-{head}-{fraction:.3g}.json"
        yield Step(record, "evaluate", (*words, *options))


def _plugin(row: Row) -> tuple[str, ...]:
    return ("--plugin", row.plugin) if row.plugin else ()
