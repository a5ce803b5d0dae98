"""Simulate strong lenses with and without substructure: `python -m deeplens_tf.simulate`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens_tf.cli import run_stage, stage_parser
from deeplens_tf.errors import RequestError
from deeplens_tf.simulation.process_pool import available_cores
from deeplens_tf.simulation.request import SPLITS, SimulationRequest
from deeplens_tf.terminal import print_lines

if TYPE_CHECKING:
    from deeplens_tf.simulation.generation import SimulationOutcome

DESCRIPTION = """Simulate images of strong lenses as the DeepLense data sets have them, one folder
per class. A run that was stopped goes on where it was; a larger --count adds to what is there."""


def main(words: Sequence[str]) -> None:
    """Simulate what the command line asks for and say what was written where.

    Args:
        words: the command line after the module's name.

    Raises:
        RequestError: an option is wrong, or the folder belongs to another request.
    """
    options = parser().parse_args(words)
    request = SimulationRequest(
        preset=options.preset,
        count=options.count,
        out=options.out,
        seed=options.seed,
        noise=options.noise,
        split=options.split,
        classes=tuple(name.strip() for name in options.classes.split(",")),
        shard=parse_shard(options.shard),
    )
    # Imported late, so that `--help` and a wrong option answer at once.
    from deeplens_tf.simulation.generation import simulate

    _report(request, simulate(request, options.jobs))


def parser() -> argparse.ArgumentParser:
    """Return the stage's command line; the defaults of its options live here."""
    from deeplens_tf.simulation.priors import CLASSES, PRESETS

    stage = stage_parser("simulate", DESCRIPTION)
    stage.add_argument("--preset", default="model_ii", help=f"instrument: {', '.join(PRESETS)}")
    stage.add_argument("--count", type=int, required=True, help="images per class")
    stage.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    stage.add_argument("--seed", type=int, default=0, help="another seed gives other lenses")
    stage.add_argument("--jobs", type=int, default=available_cores(), help="processes to use")
    stage.add_argument(
        "--noise",
        action="store_true",
        help="add the instrument's noise; Model I always has noise",
    )
    stage.add_argument(
        "--split", default="train", help=f"one of {', '.join(SPLITS)}; test writes <DIR>_test"
    )
    stage.add_argument(
        "--classes", default=",".join(CLASSES), help="classes to simulate, with commas between"
    )
    stage.add_argument(
        "--shard", default="1/1", metavar="i/n", help="make the i-th of n parts, as in array jobs"
    )
    return stage


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) from "i/n".

    Raises:
        RequestError: the text isn't two whole numbers with a slash between.
    """
    first, _, second = text.partition("/")
    try:
        return int(first), int(second)
    except ValueError:
        raise RequestError(f"--shard takes i/n, as in 1/8. Received: {text}") from None


def _report(request: SimulationRequest, outcome: "SimulationOutcome") -> None:
    if outcome.other_versions:
        versions = ", ".join(f"{name} {was}" for name, was in outcome.other_versions.items())
        print_lines(f"deeplens_tf: images made before used {versions}", stream=sys.stderr)
    kept = f", kept {outcome.kept}" if outcome.kept else ""
    print_lines(
        f"wrote {outcome.written} images of {', '.join(request.classes)}{kept}: {outcome.folder}"
    )


if __name__ == "__main__":
    run_stage(main)
