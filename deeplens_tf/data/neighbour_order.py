"""Batches of neighbours in feature space, by balanced bisection."""

import numpy as np
from numpy.typing import NDArray


def neighbour_batches(
    features: NDArray[np.floating], batch_size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return an order of examples in which each batch is made of neighbours.

    A cell of the examples is cut in two at a rank along a random principal direction of its
    normalised features, as close to the median as whole batches allow, until each cell is one
    batch. The batches come in random order.

    Args:
        features: shape (examples, dim), finite; only their direction counts.
        batch_size: examples in a batch.
        generator: draws the examples that are left over, the directions and the order.

    Returns:
        Indices of examples, each at most once, shape (examples // batch_size * batch_size,).
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    count = len(unit) // batch_size * batch_size
    cells, batches = [generator.permutation(len(unit))[:count]], []
    while cells:
        cell = cells.pop()
        if len(cell) <= batch_size:
            batches.append(cell)
            continue
        rank = len(cell) // batch_size // 2 * batch_size
        in_order = cell[np.argsort(_positions(unit[cell], generator), kind="stable")]
        cells += [in_order[:rank], in_order[rank:]]
    return np.concatenate([batches[i] for i in generator.permutation(len(batches))])


def _positions(points: NDArray[np.floating], generator: np.random.Generator) -> NDArray:
    """Return the coordinates of points along a random principal direction, shape (points,).

    The direction is a random sum of the principal axes. The weight of an axis has the standard
    deviation of the points along it to the third power, so the leading ones decide.
    """
    centred = points - points.mean(axis=0)
    direction = centred.T @ generator.standard_normal(len(points))
    return centred @ (centred.T @ (centred @ direction))
