"""A command of a stage, run once, with a record of its processor time and its report."""

import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORK = Path("runs/results")


@dataclass(frozen=True)
class Step:
    """One command of a stage.

    Attributes:
        record: where its outcome is recorded.
        stage: of the package.
        arguments: of the command line.
    """

    record: Path
    stage: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The command as a reader can repeat it."""
        return ["python", "-m", f"deeplens_tf.{self.stage}", *self.arguments]


def as_words(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings of a configuration as the command line takes them."""
    return tuple(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))


def run_step(step: Step) -> None:
    """Run a command unless it has been, and record its processor time and its output.

    Raises:
        SystemExit: the command failed.
    """
    record = step.record
    if record.is_file() and json.loads(record.read_text())["command"] == step.command:
        return
    print("$", shlex.join(step.command), flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *step.command[1:]], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = [line for line in done.stdout.splitlines() if line.startswith("report: ")]
    outcome = {
        "command": step.command,
        "processor_seconds": round(seconds, 1),
        "report": report[-1].removeprefix("report: ") if report else None,
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(outcome, indent=2) + "\n")
