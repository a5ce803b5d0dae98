"""Exact copies of an image: where the first one went, and copies that contradict each other."""

import math
from dataclasses import dataclass, field

WHERE = {"train": "in training", "validation": "in validation", "test": "in the test folder too"}


@dataclass(frozen=True)
class Copy:
    """One file of an image, by the name that messages show: its label, its mass (NaN unknown)."""

    name: str
    label: int
    mass_ev: float

    def contradicts(self, other: "Copy") -> bool:
        """Return whether one image cannot be both: it has two classes, or two masses."""
        masses = self.mass_ev, other.mass_ev
        known = not any(map(math.isnan, masses))
        return self.label != other.label or (known and not math.isclose(*masses, rel_tol=1e-6))


# Two copies of an image that contradict each other, by the digest of its content.
Contradictions = dict[str, tuple[Copy, Copy]]


@dataclass
class Copies:
    """The first copy of each image that has been read.

    Attributes:
        contradictions: images of which no copy can be used. Those that are found are added: copies
            that were read before can only be left out when all files are read again.
        found_contradictions: whether any was added.
    """

    contradictions: Contradictions
    found_contradictions: bool = False
    _first: dict[bytes, tuple[Copy, str | None]] = field(default_factory=dict)

    def contradiction(self, content: str, copy: Copy) -> str | None:
        """Return why no copy of an image can be used, or None."""
        first = self._first.get(bytes.fromhex(content))
        if content not in self.contradictions and first and first[0].contradicts(copy):
            self.contradictions[content] = first[0], copy
            self.found_contradictions = True
        pair = self.contradictions.get(content)
        if pair is None:
            return None
        other = next((each for each in pair if each.contradicts(copy)), pair[0])
        if other.label != copy.label:
            return f"identical to {other.name}, which is in another class"
        return f"identical to {other.name}, which has the mass {other.mass_ev:g} eV"

    def duplicate(self, content: str, split: str) -> str | None:
        """Return why a copy would not be independent of another one in a split, or None.

        Copies within training are harmless; all others would be scored twice, or are known.
        """
        first = self._first.get(bytes.fromhex(content))
        if first is None or first[1] == split == "train":
            return None
        copy, its_split = first
        where = WHERE[its_split] if its_split else "left out"
        return f"identical to {copy.name}, which is {where}"

    def add(self, content: str, copy: Copy, split: str | None) -> None:
        """Note where a copy went, None if it is left out, unless it is not the first one."""
        self._first.setdefault(bytes.fromhex(content), (copy, split))
