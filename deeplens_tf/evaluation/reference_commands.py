"""What a claim of improvement needs beside a score, and the commands that make it."""

import shlex
from collections.abc import Sequence
from itertools import pairwise

from deeplens_tf.config import FROM_SCRATCH, Config
from deeplens_tf.evaluation.html_page import Section
from deeplens_tf.runs.run_folder import Run

NEEDED = (
    "A claim of improvement needs two references: the same network untrained, and the same network "
    "trained on the labels from random weights."
)
Commands = list[tuple[str, str]]


def references_of_model(run: Run, config: Config, used: Sequence[str]) -> Section:
    """Return which references of a fine-tuned model are missing.

    Args:
        run: the fine-tuning.
        config: of the evaluation.
        used: arguments of its command; others are given the same plugins.
    """
    probe = ("evaluate", "--probe", "linear", "--head", config.finetune.head, "--run", run.folder)
    commands = [_command("The untrained control, beside a probe of this encoder:", used, *probe)]
    if config.finetune.encoder == FROM_SCRATCH:
        text = "This run began from random weights: it is a supervised baseline itself."
        return _section([NEEDED, text, "The control is missing."], commands)
    scratch = ("finetune", "--encoder", FROM_SCRATCH, "--config", run.config)
    commands.append(_command("The supervised baseline:", used, *scratch))
    return _section([NEEDED, "Both are missing here."], commands)


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


def _section(text: Sequence[str], commands: Commands) -> Section:
    return Section("references", "References", text=text, commands=commands)


def _command(heading: str, used: Sequence[str], *words: object) -> tuple[str, str]:
    plugins = [word for word in used if word.startswith("--plugin=")]
    plugins += [f"--plugin={module}" for option, module in pairwise(used) if option == "--plugin"]
    stage, *rest = words
    return heading, shell(str(stage), *rest, *plugins)
