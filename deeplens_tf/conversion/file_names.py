"""Maps the arrays of a Keras 2 file to slots: names that are the same in every file.

Keras 2 numbers unnamed layers per session, so the same Dense is `dense` in one file and `dense_12`
in the next. Its slot is `dense[0]`, the first one of the file. Layers with a name of their own
(`conv1_conv`, `encoderblock_3/query`) keep it.
"""

import re
from collections.abc import Iterable

from deeplens_tf.errors import RequestError

CLASS_TOKEN, POSITIONS = "class_token", "pos_embedding"
# The original's name, that of vit-keras, on which the original is based, and our own.
CLASS_TOKENS = {"dummy_input", "cls", CLASS_TOKEN}
NUMBERED = re.compile(r"(dense|batch_normalization)(?:_(\d+))?")
BLOCK = re.compile(r"encoderblock_\d+")


def name_slots(stored: Iterable[str]) -> dict[str, str]:
    """Return the slot of each array: slot -> its name in the file.

    Args:
        stored: names in the file, `layer/.../kernel:0`.

    Raises:
        RequestError: two arrays have the same slot.
    """
    stored = list(stored)
    ordinals = _ordinals(stored)
    slots: dict[str, str] = {}
    for name in stored:
        slot = _slot(name, ordinals)
        if slot in slots:
            raise RequestError(f"both {slots[slot]} and {name} match {slot}")
        slots[slot] = name
    return slots


def _slot(name: str, ordinals: dict[str, str]) -> str:
    *owners, leaf = name.split(":")[0].split("/")
    if leaf in CLASS_TOKENS:
        return CLASS_TOKEN
    if leaf == POSITIONS:
        return POSITIONS
    owner = owners[-1] if owners else ""
    block = next((part for part in owners if BLOCK.fullmatch(part)), None)
    return "/".join(part for part in (block, ordinals.get(owner, owner), leaf) if part)


def _ordinals(stored: list[str]) -> dict[str, str]:
    """Return layer name -> slot of the numbered layers: `dense[0]` for the lowest number."""
    owners = {name.split("/")[-2] for name in stored if "/" in name}
    numbered = [match for owner in owners if (match := NUMBERED.fullmatch(owner))]
    numbered.sort(key=lambda match: int(match[2] or 0))
    ordinals, seen = {}, {"dense": 0, "batch_normalization": 0}
    for match in numbered:
        ordinals[match[0]] = f"{match[1]}[{seen[match[1]]}]"
        seen[match[1]] += 1
    return ordinals
