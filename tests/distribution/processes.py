"""Running a test program in a process of its own, which can cut its CPU in two."""

import subprocess
import sys

from tests.conftest import REPOSITORY

LONGEST_S = 900  # of all cases, on a machine that does much else


def run_program(module, folder, cases):
    """Run `python -m module folder case...` to its end.

    One process for all cases: a second one would import TensorFlow once more, which costs as much
    as a case, and other tests use the other cores.
    """
    words = [sys.executable, "-W", "error", "-m", module, str(folder), *cases]
    subprocess.run(words, cwd=REPOSITORY, check=True, timeout=LONGEST_S)
