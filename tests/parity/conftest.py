"""Reference arrays of the original's stack, and the table of how far ours are from them.

`make parity` writes the arrays and names their folder in DEEPLENS_PARITY.
"""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from tests.parity.differences import Differences

DIFFERENCES = Differences()


@pytest.fixture(scope="session")
def parity_folder():
    named = os.environ.get("DEEPLENS_PARITY")
    if not named:
        pytest.skip("DEEPLENS_PARITY names no folder of reference arrays; `make parity` makes one")
    folder = Path(named)
    if not (folder / "reference" / "versions.json").is_file():
        pytest.fail(f"{folder} holds no reference arrays; `make parity` writes them")
    return folder


@pytest.fixture(scope="session")
def opened():
    """Open `.npz` files whose arrays are read as they are asked for."""
    with contextlib.ExitStack() as files:
        yield lambda path: files.enter_context(np.load(path, allow_pickle=False))


@pytest.fixture(scope="session")
def reference(parity_folder, opened):
    """Open one file of reference arrays."""
    return lambda name: opened(parity_folder / "reference" / f"{name}.npz")


@pytest.fixture(scope="session")
def given(parity_folder, opened):
    """Open one file of the arrays that the reference was given."""
    return lambda name: opened(parity_folder / "given" / f"{name}.npz")


@pytest.fixture
def differences():
    return DIFFERENCES


def pytest_terminal_summary(terminalreporter):
    if DIFFERENCES.rows:
        terminalreporter.section("differences from Keras 2 and TensorFlow Addons")
        terminalreporter.write(DIFFERENCES.table())
        folder = Path(os.environ["DEEPLENS_PARITY"])
        (folder / "differences.md").write_text(DIFFERENCES.table())
