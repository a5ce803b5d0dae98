"""What is compared: a method, a network and a batch of pairs of views."""

from dataclasses import dataclass
from typing import Any

LEARNING_RATE, PROBE_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-3, 1e-3, 0.05, 1.0
TEMPERATURE, MOMENTUM = 0.1, 0.99
WIDTH, HIDDEN, CLASSES = 256, 512, 3  # of the projection, of BYOL's heads, of the probe
ADAM_EPSILON = 1e-12  # too small to matter: the two define it differently
BATCHES = 4  # of different images, used in turn


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        method: "contrastive" or "byol".
        encoder: name of the encoder.
        side: of the grey images, in pixels.
        pairs: pairs of views in a step.
        options: of the encoder.
    """

    method: str
    encoder: str
    side: int
    pairs: int
    options: dict[str, Any]

    @property
    def title(self) -> str:
        """The row as the table names it."""
        patch = self.options["patch_size"]
        return f"{self.method}, {self.encoder}, {self.side} x {self.side}, patch {patch}"


NANO: dict[str, Any] = {"patch_size": 4}
TINY: dict[str, Any] = {"patch_size": 8, "depth": 6}
ROWS = (
    Row("contrastive", "vit_nano", 32, 128, NANO),
    Row("byol", "vit_nano", 32, 128, NANO),
    Row("contrastive", "vit_tiny", 64, 64, TINY),
    Row("byol", "vit_tiny", 64, 64, TINY),
)


def flops(row: Row, width: int, depth: int, mlp_width: int) -> float:
    """Return the multiplications and additions of a step: passes back cost twice a pass forward.

    Those of the matrix products of the encoder alone; BYOL's target has no pass back.
    """
    tokens = (row.side // row.options["patch_size"]) ** 2
    embedding = row.options["patch_size"] ** 2 * width
    block = 4 * width**2 + 2 * width * mlp_width + 2 * tokens * width
    passes = 3 + (row.method == "byol")
    return 2.0 * 2 * row.pairs * tokens * (embedding + depth * block) * passes
