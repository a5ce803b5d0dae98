"""What a claim of improvement needs beside a score, and the commands that make it."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from deeplens_tf.config import FROM_SCRATCH, Config
from deeplens_tf.evaluation.html_page import Section, Table
from deeplens_tf.evaluation.known_references import known_references
from deeplens_tf.runs.run_folder import Run

NEEDED = (
    "A claim of improvement needs two references: the same network untrained, and the same network "
    "trained on the labels from random weights."
)
ITSELF = "This run began from random weights: it is a supervised baseline itself."
MISSING = (
    "What was not measured on these images is missing here; the commands make it, and a repeat of "
    "the evaluation then shows it."
)
Commands = list[tuple[str, str]]


def references_of_model(
    run: Run, config: Config, metrics: Mapping[str, Any], used: Sequence[str]
) -> Section:
    """Return the references of a fine-tuned model, and how to make those that are missing.

    Args:
        run: the fine-tuning.
        config: of the evaluation.
        metrics: of its report.
        used: arguments of its command; others are given the same plugins.
    """
    known = known_references(run, metrics)
    from_scratch = config.finetune.encoder == FROM_SCRATCH
    commands = []
    if known.control is None:
        probe = ("evaluate", "--probe", "linear", "--head", config.finetune.head)
        heading = "The untrained control, beside a probe of this encoder:"
        commands.append(_command(heading, used, *probe, "--run", run.folder))
    if known.baseline is None and not from_scratch:
        scratch = ("finetune", "--encoder", FROM_SCRATCH, "--config", run.config)
        commands.append(_command("The supervised baseline:", used, *scratch))
    text = [NEEDED, *([ITSELF] if from_scratch else []), *([MISSING] if commands else [])]
    tables = [known.table()] if known.control or known.baseline else []
    return _section(text, commands, tables)


def references_of_probe(run: Run, config: Config, head: str, used: Sequence[str]) -> Section:
    """Return which references of a probe are missing; the arguments are as above.

    Args:
        run: with the encoder.
        config: of the evaluation.
        head: what the probe predicts.
        used: arguments of its command.
    """
    known = "The untrained control is in the table of the scores; the supervised baseline is not."
    tuned = ("finetune", "--encoder", run.folder, "--head", head, "--data", config.data.path)
    scratch = ("finetune", "--encoder", FROM_SCRATCH, "--config", "TUNED/config.yaml")
    commands = [
        _command("First this encoder, fine-tuned:", used, *tuned),
        _command("Then the baseline of that run, whose folder is TUNED:", used, *scratch),
    ]
    return _section([NEEDED, known], commands)


def shell(stage: str, *words: object) -> str:
    """Return the command of a stage, quoted for a shell."""
    return shlex.join(["python", "-m", f"deeplens_tf.{stage}", *map(str, words)])


def _section(text: Sequence[str], commands: Commands, tables: Sequence[Table] = ()) -> Section:
    return Section("references", "References", text=text, commands=commands, tables=tables)


def _command(heading: str, used: Sequence[str], *words: object) -> tuple[str, str]:
    plugins = [word for word in used if word.startswith("--plugin=")]
    plugins += [f"--plugin={module}" for option, module in pairwise(used) if option == "--plugin"]
    stage, *rest = words
    return heading, shell(str(stage), *rest, *plugins)
