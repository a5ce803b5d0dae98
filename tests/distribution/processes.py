"""Running a test program in several processes at once, each with a part of the cases."""

import subprocess
import sys

from tests.conftest import REPOSITORY
from tests.distribution.two_machines import LONGEST_S


def run_in_parts(module, folder, parts):
    """Run `python -m module folder case...` for the cases of each part, and wait for all."""
    words = [sys.executable, "-W", "error", "-m", module, str(folder)]
    processes = [subprocess.Popen([*words, *cases], cwd=REPOSITORY) for cases in parts]
    try:
        assert [process.wait(LONGEST_S) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
