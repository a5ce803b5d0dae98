"""Make rows of the table from nothing: `python -m results ROW... --sky clean --seeds 0`."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from deeplens_tf.files.shipped import SHIPPED
from results.finetunings import row_folder
from results.row_steps import READOUTS, data_steps, row_steps
from results.rows import ROWS, SKIES
from results.steps import run_step
from results.store import collect
from results.tables import write_tables


def provide(shipped: str, run: Path) -> None:
    """Copy an encoder of the package to where a row's pretraining would be."""
    shutil.copytree(SHIPPED / shipped, run, dirs_exist_ok=True)


def main(argv: Sequence[str]) -> None:
    """Make the rows of the command line, in their order."""
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    rows, skies = {row.name: row for row in ROWS}, {sky.name: sky for sky in SKIES}
    parser.add_argument("rows", nargs="*", choices=[*rows, []], help="which rows; without: none")
    parser.add_argument("--sky", choices=skies, default="clean")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--readouts", choices=READOUTS, nargs="+", default=READOUTS)
    arguments = parser.parse_args(argv)
    sky = skies[arguments.sky]
    for seed in arguments.seeds:
        for row in (rows[name] for name in arguments.rows):
            if row.shipped:
                provide(row.shipped, row_folder(row, sky, seed) / "pretrain")
            steps = list(row_steps(row, sky, seed, arguments.readouts))
            for step in chain(data_steps(row, sky), steps):
                run_step(step)
            collect(sky, row.name, seed, steps)
    write_tables()


if __name__ == "__main__":
    main(sys.argv[1:])
