"""Simulated lenses with the true residual of their substructure, in the window of a network."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import deeplens_tf as dl
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from results.row_steps import TEST_SEED

Floats = NDArray[np.floating]

CLASSES = ("axion", "cdm")  # no_sub has no substructure


class Lenses(NamedTuple):
    """Simulated lenses in the window of the network.

    Attributes:
        classes: of each, shape (lenses,).
        images: as the network takes them, shape (lenses, height, width, 1).
        residuals: of the substructure in the image, in counts per second, (lenses, height, width).
    """

    classes: NDArray[np.str_]
    images: NDArray[np.float32]
    residuals: Floats


def draw_lenses(count: int, how: Preprocessing) -> Lenses:
    """Return the first test lenses of each class, preprocessed as a network takes them."""
    request = dl.simulation.SimulationRequest(
        "model_ii", count, Path("unwritten"), seed=TEST_SEED, split="test", classes=CLASSES
    )
    lenses = [request.lens(name, i) for name in CLASSES for i in range(count)]
    images = [dl.simulation.render_image(lens) for lens in lenses]
    smooth = [dl.simulation.render_smooth(lens) for lens in lenses]
    pairs = zip(images, smooth, strict=True)
    residuals = [how.framing.kept((one - other)[..., np.newaxis])[..., 0] for one, other in pairs]
    classes = np.array([lens.class_name for lens in lenses])
    return Lenses(classes, how.apply(images), np.stack(residuals))


def marked_pixels(residuals: Floats) -> NDArray[np.bool_]:
    """Return where the smallest set of pixels is that holds half of the sum of |residual|."""
    sizes = np.abs(residuals).reshape(len(residuals), -1)
    order = np.argsort(-sizes, axis=1, kind="stable")
    sums = np.take_along_axis(sizes, order, axis=1).cumsum(axis=1)
    before = np.pad(sums[:, :-1], ((0, 0), (1, 0)))  # the sum of all larger ones
    marked = np.zeros(sizes.shape, bool)
    np.put_along_axis(marked, order, before < sums[:, -1:] / 2, axis=1)
    return marked.reshape(residuals.shape)
