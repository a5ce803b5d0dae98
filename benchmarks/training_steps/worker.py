"""A process that takes steps on request: one JSON object per line in, one per line out.

{"build": index of a row, "folder": where weights and views are exchanged, ...} -> facts
{"steps": n} -> {"seconds": [...], "losses": [...]}
{"product": side} -> {"gflops": rate of a float32 matrix product}
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

PRODUCTS = 8


class Trainer(Protocol):
    """A model with its batches."""

    def step(self) -> float:
        """Take one step and return the loss of the pretext."""


def serve(
    build: Callable[[dict[str, Any], Path], tuple[Trainer, dict[str, Any]]],
    product: Callable[[int], Callable[[], object]],
) -> None:
    """Answer requests until the input ends.

    Args:
        build: request, folder -> a trainer and facts about it.
        product: side -> a function that multiplies two matrices of that side.
    """
    trainer = None
    for line in sys.stdin:
        request = json.loads(line)
        if "build" in request:
            trainer, answer = build(request, Path(request["folder"]))
        elif "product" in request:
            answer = {"gflops": _rate(product(request["product"]), request["product"])}
        else:
            assert trainer is not None
            answer = _timed(trainer, request["steps"])
        print(json.dumps(answer), flush=True)


def _timed(trainer: Trainer, steps: int) -> dict[str, Any]:
    seconds, losses = [], []
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(trainer.step())
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "losses": losses}


def _rate(multiply: Callable[[], object], side: int) -> float:
    """Return the best rate of a few products, in GFLOP/s."""
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds) / 1e9
