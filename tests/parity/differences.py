"""How far our arrays are from the reference's, and the table of all that was compared."""

from dataclasses import dataclass, field

import numpy as np

HEADER = """\
| component | compared | numbers | largest difference | tolerance |
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
        count = sum(np.size(array) for array in theirs.values())
        self.hold_figure(piece, compared, count, largest(ours, theirs), tolerance)

    def hold_figure(self, piece, compared, count, difference, tolerance):
        """Record a difference that the test measured itself and hold it to the tolerance."""
        self.note(piece, compared, count, difference, f"{tolerance:.0e}")
        assert difference <= tolerance, f"{piece}, {compared}: {difference:.2g} > {tolerance:g}"

    def note(self, piece, compared, count, difference, held="intended difference"):
        """Record an intended difference, or one that is the reference for another."""
        assert np.isfinite(difference), f"{piece}, {compared}: the difference is {difference}"
        self.rows.append((piece, compared, count, difference, held))

    def table(self):
        return HEADER + "".join(_line(*row) for row in self.rows)


def largest(ours, theirs):
    """Return the largest difference over the largest value of its layer."""
    return max(relative(ours, theirs).values())


def relative(ours, theirs):
    """Return, by layer, the largest difference over the largest value.

    Nothing may pass unseen: the names are the same on both sides, all numbers are finite, and a
    layer without any value but 0 is refused, for every network that is compared has some.
    """
    assert set(ours) == set(theirs), f"names differ: {sorted(set(ours) ^ set(theirs))}"
    assert theirs, "nothing to compare"
    gaps, sizes = {}, {}
    for name in theirs:
        layer = name.rpartition("/")[0]
        our, their = _finite(f"our {name}", ours[name]), _finite(f"their {name}", theirs[name])
        gaps.setdefault(layer, []).append(np.abs(our.reshape(their.shape) - their).max())
        sizes.setdefault(layer, []).append(np.abs(their).max())
    scales = {layer: np.max(size) for layer, size in sizes.items()}
    empty = [layer for layer, scale in scales.items() if scale == 0]
    assert not empty, f"all zero in the reference: {empty}"
    return {layer: float(np.max(gap) / scales[layer]) for layer, gap in gaps.items()}


def _finite(what, array):
    array = np.asarray(array, np.float64)
    assert array.size, f"{what} is empty"
    assert np.isfinite(array).all(), f"{what} is not finite"
    return array


def _by_name(arrays):
    return arrays if isinstance(arrays, dict) else {"array": np.asarray(arrays)}


def _line(piece, compared, count, difference, held):
    return f"| {piece} | {compared} | {count:,} | {difference:.1e} | {held} |\n"
