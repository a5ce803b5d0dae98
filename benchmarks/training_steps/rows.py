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
        side: of the images, in pixels.
        pairs: pairs of views in a step.
        options: of the encoder.
        bands: of the images.
        compared_steps: first steps of which the losses must agree.
        tolerance: relative to the loss; Adam enlarges rounding after the first steps.
    """

    method: str
    encoder: str
    side: int
    pairs: int
    options: dict[str, Any]
    bands: int = 1
    compared_steps: int = 3
    tolerance: float = 2e-3

    @property
    def title(self) -> str:
        """The row as the table names it."""
        options = ", ".join(f"{key.split('_')[0]} {value}" for key, value in self.options.items())
        bands = f" x {self.bands}" if self.bands > 1 else ""
        return f"{self.method}, {self.encoder}, {self.side} x {self.side}{bands}, {options}"


NANO: dict[str, Any] = {"patch_size": 4}
TINY: dict[str, Any] = {"patch_size": 8, "depth": 6}
# Without dropout, so that the losses can be compared; so is the dropout of its top.
B32: dict[str, Any] = {"patch_size": 32, "dropout": 0.0}
ROWS = (
    Row("contrastive", "vit_nano", 32, 128, NANO),
    Row("byol", "vit_nano", 32, 128, NANO),
    Row("contrastive", "vit_tiny", 64, 64, TINY),
    Row("byol", "vit_tiny", 64, 64, TINY),
    Row("contrastive", "vit_b32_original", 64, 128, B32, bands=3),
    # BatchNorms after nearly constant features enlarge rounding: with equal weights our own loss of
    # 32 pairs is 2.056 eagerly, 2.048 in a graph and 2.032 by XLA.
    Row("byol", "vit_b32_original", 64, 128, B32, bands=3, compared_steps=1, tolerance=1e-2),
    # Its many BatchNorms enlarge rounding: after one step PyTorch's own two differ by percents.
    Row("contrastive", "resnet50", 64, 64, {"top_width": 256}, bands=3, compared_steps=1),
    Row("byol", "resnet50", 64, 64, {"top_width": 256}, bands=3, compared_steps=1),
)


def flops(row: Row, multiplications: float) -> float:
    """Return the multiplications and additions of a step: passes back cost twice a pass forward.

    Those of the matrix products of the encoder alone, of which one image's forward pass has
    `multiplications`; BYOL's target has no pass back.
    """
    passes = 3 + (row.method == "byol")
    return 2.0 * 2 * row.pairs * multiplications * passes
