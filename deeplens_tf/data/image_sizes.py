"""Cutouts of different sizes, which resizing would give different pixel scales."""

from deeplens_tf.errors import DataError

MAX_SCALE_RATIO = 1.02


class ImageSizes:
    """Compares the factors by which images are resampled.

    Args:
        image_size: side of the prepared images in pixels.
        fit: "resize" or "crop", see `scaling.resize_and_scale`.
        remedy: what the message says to do; "" for the configuration's keys.
    """

    def __init__(self, image_size: int, fit: str, remedy: str = "") -> None:
        self.image_size, self.fit, self.remedy = image_size, fit, remedy
        self._extremes: list[tuple[int, str, tuple[int, int]]] = []  # side, name, (height, width)

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Add an image.

        Raises:
            DataError: it is resampled by another factor than an earlier one, by more than 2 %.
        """
        side = min(shape[:2]) if self.fit == "resize" else min(*shape[:2], self.image_size)
        these = sorted([*self._extremes, (side, name, (shape[0], shape[1]))])
        self._extremes = [these[0], these[-1]]
        if these[-1][0] > MAX_SCALE_RATIO * these[0][0]:
            raise DataError(self._message())

    @property
    def extremes(self) -> list[tuple[str, tuple[int, int]]]:
        """Name, height and width of the smallest and the largest image so far."""
        return [(name, shape) for _, name, shape in self._extremes]

    @property
    def side(self) -> int | None:
        """Side of the square that is kept of a source image, in its pixels."""
        return self._extremes[0][0] if self._extremes else None

    @property
    def factor(self) -> float | None:
        """Pixels of a source image in one of its result, along a side; None before the first."""
        return self._extremes[0][0] / self.image_size if self._extremes else None

    def _message(self) -> str:
        small, large = (f"{name} has {h} x {w} pixels" for _, name, (h, w) in self._extremes)
        crop = "data.fit=crop, which keeps the pixel scale"
        smaller = f"data.image_size={self._extremes[0][0]}, to which no image is enlarged"
        keys = f"set {crop if self.fit == 'resize' else smaller}, or data.mixed_sizes=true"
        return (
            f"images differ in size: {small}, {large}; resized to {self.image_size} they would "
            f"have different pixel scales: {self.remedy or keys}"
        )
