"""Compare the training steps of this package with those of PyTorch, in turn, on this machine.

    python -m benchmarks.training_steps --peer .venv-bench/bin/python --short

Both train the same network from the same weights on the same views, with the same optimiser and
the same probe; the losses of their first steps must agree. This package keeps freed memory, as its
trainings do. A round takes steps with each in turn.
The table has the medians of the rounds, and the ratio to the faster PyTorch of each round. Each
row is written when it is measured; `--rows` measures some and keeps the others of the table.
"""

import argparse
import csv
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.training_steps import rows

RESULTS = Path(__file__).parents[1] / "results"
PRODUCT_SIDE = 2048
WARM_UP_STEPS = 3
COLUMNS = (
    *("step", "pairs", "ours, pairs/s", "PyTorch eager", "PyTorch compiled"),
    *("ours / faster PyTorch", "from .. to", "share of the best product", "rounds x steps"),
)
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")


class Worker:
    """A process that takes steps on request."""

    def __init__(self, python: str, module: str, threads: int, folder: str, **facts: Any) -> None:
        self.facts = {**facts, "folder": folder}
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled",
        }
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.training_steps.{module}", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**self.facts, **request}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(argv: Sequence[str]) -> None:
    """Measure with the options of the command line, print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="interpreter that has PyTorch")
    parser.add_argument("--short", action="store_true", help="the first row only")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of each in a round")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of the rows, from 0")
    arguments = parser.parse_args(argv)
    for index in arguments.rows or range(1 if arguments.short else len(rows.ROWS)):
        line, versions = _measure(index, arguments)
        line.append(f"{arguments.rounds} x {arguments.steps}")
        print(" | ".join(map(str, line)), flush=True)
        _write(line, versions, arguments)


def _measure(index: int, arguments: argparse.Namespace) -> tuple[list[Any], str]:
    """Return a line of the table and the versions; each row has processes of its own."""
    row = rows.ROWS[index]
    with tempfile.TemporaryDirectory() as folder:
        ours = Worker(sys.executable, "ours", arguments.threads, folder)
        facts = ours.ask(build=index)
        peers = [
            Worker(arguments.peer, "peer", arguments.threads, folder, compiled=compiled)
            for compiled in (False, True)
        ]
        built = [p.ask(build=index, sizes=facts["sizes"]) for p in peers]
        workers = (ours, *peers)
        first = [each.ask(steps=WARM_UP_STEPS)["losses"] for each in workers]
        _require_same_losses([losses[: row.compared_steps] for losses in first], row.tolerance)
        product = max(w.ask(product=PRODUCT_SIDE)["gflops"] for w in workers[:2])
        rounds = [
            [statistics.median(w.ask(steps=arguments.steps)["seconds"]) for w in workers]
            for _ in range(arguments.rounds)
        ]
        for worker in workers:
            worker.end()
    median = statistics.median(r[0] for r in rounds)
    rate = rows.flops(row, facts["multiplications"]) / median / 1e9
    versions = f"{facts['versions']}, {built[0]['versions']}"
    return _line(row, rounds, rate / product), versions


def _require_same_losses(losses: list[list[float]], tolerance: float) -> None:
    for step in zip(*losses, strict=True):
        if max(step) - min(step) > tolerance * abs(step[0]):
            raise SystemExit(f"the losses of the first steps differ: {losses}")


def _line(row: rows.Row, rounds: list[list[float]], share: float) -> list[Any]:
    medians = [statistics.median(seconds) for seconds in zip(*rounds, strict=True)]
    ratios = sorted(min(peer, compiled) / own for own, peer, compiled in rounds)
    return [
        row.title,
        row.pairs,
        *(f"{row.pairs / seconds:.1f}" for seconds in medians),
        f"{statistics.median(ratios):.2f}",
        f"{ratios[0]:.2f} .. {ratios[-1]:.2f}",
        f"{share:.2f}",
    ]


def _write(line: list[Any], versions: str, arguments: argparse.Namespace) -> None:
    """Put a line into this processor's table, in place of an earlier one of the same step."""
    processor, flags = _processor()
    words = f"{processor} {flags[-1] if flags else ''}".lower()
    name = re.sub(r"[^a-z0-9]+", "-", words).strip("-") + ("-short" if arguments.short else "")
    path = RESULTS / f"steps-{name}.csv"
    lines = {row[0]: row for row in _read(path)} | {line[0]: [str(cell) for cell in line]}
    ordered = [lines[row.title] for row in rows.ROWS if row.title in lines]
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *ordered])
    head = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    table = "\n".join([*head, *("| " + " | ".join(cells) + " |" for cells in ordered)])
    command = "make bench SHORT=1" if arguments.short else "make bench"
    path.with_suffix(".md").write_text(
        f"# Training steps on {processor}\n\n{arguments.threads} threads of "
        f"{os.cpu_count()} processors ({platform.machine()}; {', '.join(flags)}); {versions}. "
        f"Medians of rounds of steps, in turn:\n`{command}`.\n\n{table}\n"
    )


def _read(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.reader(stream))[1:]


def _processor() -> tuple[str, list[str]]:
    """Return the processor's name, and those of its flags that decide on the speed."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    name = re.search(r"model name\s*: (.*)", text)
    flags = re.search(r"flags\s*: (.*)", text)
    known = flags[1].split() if flags else []
    return (name[1] if name else platform.processor()), [flag for flag in FLAGS if flag in known]


if __name__ == "__main__":
    main(sys.argv[1:])
