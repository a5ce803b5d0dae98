"""Make rows of the table from nothing: `python -m results ROW... --sky clean --seeds 0`."""

import argparse
import sys
from collections.abc import Sequence
from itertools import chain

from results.row_steps import READOUTS, data_steps, row_steps
from results.rows import ROWS, SKIES
from results.steps import run_step
from results.store import collect
from results.tables import write_tables


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
            steps = list(row_steps(row, sky, seed, arguments.readouts))
            for step in chain(data_steps(row, sky), steps):
                run_step(step)
            collect(sky, row.name, seed, steps)
    write_tables()


if __name__ == "__main__":
    main(sys.argv[1:])
