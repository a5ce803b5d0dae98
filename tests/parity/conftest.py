"""Reference arrays of the original's stack, and the table of how far ours are from them.

`make parity` writes the arrays and names their folder in DEEPLENS_PARITY.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

HEADER = """\
| piece | compared | numbers | largest difference | held to |
| --- | --- | --- | --- | --- |
"""


@dataclass
class Differences:
    """What was compared so far."""

    rows: list = field(default_factory=list)

    def hold(self, piece, compared, ours, theirs, tolerance):
        """Record how far `ours` is from `theirs` and hold it to the tolerance.

        Both are arrays or dicts of arrays. The difference is the largest one over the largest
        value of the array, or of a dict's layer: the gradient of a bias that has none but
        rounding noise says nothing by itself, beside its kernel's it does.
        """
        ours, theirs = _by_name(ours), _by_name(theirs)
        assert set(ours) == set(theirs)
        difference = max(relative(ours, theirs).values())
        count = sum(np.size(array) for array in theirs.values())
        self.hold_figure(piece, compared, count, difference, tolerance)

    def hold_figure(self, piece, compared, count, difference, tolerance):
        """Record a difference that the test measured itself and hold it to the tolerance."""
        self.note(piece, compared, count, difference, f"{tolerance:.0e}")
        assert difference <= tolerance, f"{piece}, {compared}: {difference:.2g} > {tolerance:g}"

    def note(self, piece, compared, count, difference, held="differs on purpose"):
        """Record a difference that is there on purpose, or that gives the scale of another."""
        self.rows.append((piece, compared, count, difference, held))

    def table(self):
        return HEADER + "".join(_line(*row) for row in self.rows)


def _by_name(arrays):
    return arrays if isinstance(arrays, dict) else {"array": np.asarray(arrays)}


def relative(ours, theirs):
    """Return, by layer, the largest difference over the largest value."""
    gaps, sizes = {}, {}
    for name in theirs:
        layer = name.rpartition("/")[0]
        our, their = np.float64(ours[name]), np.float64(theirs[name])
        gap = np.abs(our.reshape(their.shape) - their).max()
        gaps[layer] = max(gaps.get(layer, 0.0), gap)
        sizes[layer] = max(sizes.get(layer, 0.0), np.abs(their).max())
    return {layer: gaps[layer] / sizes[layer] for layer in gaps}


def _line(piece, compared, count, difference, held):
    return f"| {piece} | {compared} | {count:,} | {difference:.1e} | {held} |\n"


DIFFERENCES = Differences()


@pytest.fixture(scope="session")
def parity_folder():
    named = os.environ.get("DEEPLENS_PARITY")
    if not named:
        pytest.skip("DEEPLENS_PARITY names no folder of reference arrays; `make parity` makes one")
    folder = Path(named)
    if not (folder / "reference" / "versions.json").is_file():
        pytest.skip(f"{folder} holds no reference arrays; `make parity` writes them")
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
