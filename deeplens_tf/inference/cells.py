"""Rows of a table of features in cells, of which a search looks through the nearest ones alone.

The cells are those of k-means on the unit sphere, as in an inverted file (Sivic and Zisserman 2003,
"Video Google"; Jégou, Douze and Schmid 2011, section IV). FAISS, an extra, computes them; a search
needs it no more, since the rows in the cells are compared exactly.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.errors import RequestError
from deeplens_tf.inference.embedding_rows import BLOCK_ROWS
from deeplens_tf.inference.nearest import unit_rows

RECALL_TOP = 100  # the neighbours of a row that are looked for, to measure what cells lose
RECALL_GOAL = 0.99
RECALL_ROWS = 200  # half of them to choose the number of cells, half to measure
ROWS_PER_CELL = 39  # with fewer, k-means of FAISS warns


@dataclass(frozen=True)
class Cells:
    """Which rows are in which cell.

    Attributes:
        centres: directions of the cells, shape (cells, dim), float32.
        order: all rows, cell by cell, shape (rows,), int64.
        starts: where each cell begins in `order`, and its end, shape (cells + 1,), int64.
        looked_at: how many cells a search looks through.
        recall: which part of the `RECALL_TOP` nearest rows is in these, as measured.
    """

    centres: NDArray[np.float32]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    looked_at: int
    recall: float

    def rows_near(self, query: NDArray[np.float32], at_least: int) -> NDArray[np.int64]:
        """Return the rows in the cells nearest to a vector, in the order of the table.

        Args:
            query: shape (dim,).
            at_least: how many rows; more cells than usual are looked through for so many.
        """
        nearest = np.argsort(-(self.centres @ unit_rows(query[np.newaxis])[0]), kind="stable")
        held = np.cumsum(np.diff(self.starts)[nearest])
        enough = int(np.searchsorted(held, min(at_least, held[-1]))) + 1
        cells = nearest[: max(self.looked_at, enough)]
        return np.sort(np.concatenate([self._rows_of(cell) for cell in cells]))

    def _rows_of(self, cell: int) -> NDArray[np.int64]:
        return self.order[self.starts[cell] : self.starts[cell + 1]]


def build_cells(features: NDArray[np.float32], seed: int = 0) -> Cells:
    """Return cells of the rows, enough of which are looked at for `RECALL_GOAL`.

    Args:
        features: shape (rows, dim), finite; may be mapped from a file.
        seed: of k-means, and of the rows by which it is measured.

    Raises:
        RequestError: FAISS is not installed.
    """
    try:
        faiss = import_module("faiss")
    except ImportError:
        raise RequestError(
            "--index: building an index needs FAISS: pip install 'deeplens_tf[faiss]'"
        ) from None
    centres = _centres(faiss, features, seed)
    quantizer = faiss.IndexFlatIP(features.shape[1])
    quantizer.add(centres)
    cell_of = np.concatenate([quantizer.search(rows, 1)[1][:, 0] for rows in _units(features)])
    order = np.argsort(cell_of, kind="stable")
    starts = np.searchsorted(cell_of[order], np.arange(len(centres) + 1))
    ranks = _ranks(features, centres, cell_of, seed + 1)
    half = max(1, len(ranks) // 2)
    # A copy of a row is in the cell of the row, unless rounding decides between two cells.
    looked_at = max(2, 1 + int(np.quantile(ranks[:half], RECALL_GOAL, method="higher")))
    recall = float((ranks[-half:] < looked_at).mean())
    return Cells(centres, order, starts, min(looked_at, len(centres)), recall)


def _units(features: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), BLOCK_ROWS):
        yield unit_rows(features[start : start + BLOCK_ROWS])


def _centres(faiss: Any, features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the directions of about 2 sqrt(rows) cells, by k-means of some of the rows."""
    rows, dim = features.shape
    count = max(1, min(int(2 * math.sqrt(rows)), rows // ROWS_PER_CELL))
    chosen = np.random.default_rng(seed).choice(
        rows, min(rows, ROWS_PER_CELL * count), replace=False
    )
    means = faiss.Kmeans(dim, count, niter=10, spherical=True, seed=seed)
    means.cp.min_points_per_centroid = 1
    means.train(unit_rows(features[np.sort(chosen)]))
    return means.centroids


def _ranks(
    features: NDArray[np.float32],
    centres: NDArray[np.float32],
    cell_of: NDArray[np.int64],
    seed: int,
) -> NDArray[np.int64]:
    """Return how many cells are nearer than that of each neighbour, for some rows.

    Returns:
        Shape (rows, neighbours); the neighbours are the exact ones, in float32.
    """
    count, generator = min(RECALL_ROWS, len(features)), np.random.default_rng(seed)
    chosen = generator.choice(len(features), count, replace=False)
    queries = np.concatenate([unit_rows(features[row : row + 1]) for row in chosen])
    neighbours = _neighbours(features, queries, chosen)
    order = np.argsort(-(queries @ centres.T), axis=1, kind="stable")
    rank_of_cell = np.argsort(order, axis=1)
    return np.take_along_axis(rank_of_cell, cell_of[neighbours], axis=1)


def _neighbours(
    features: NDArray[np.float32], queries: NDArray[np.float32], chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rows nearest to each chosen row, without itself, in no order."""
    best: NDArray[np.float32] = np.empty((len(chosen), 0), np.float32)
    rows: NDArray[np.int64] = np.empty((len(chosen), 0), np.int64)
    top, start = max(1, min(RECALL_TOP, len(features) - 1)), 0
    for block in _units(features):
        products, numbers = queries @ block.T, start + np.arange(len(block))
        products[chosen[:, np.newaxis] == numbers] = -np.inf
        best = np.hstack([best, products])
        rows = np.hstack([rows, np.broadcast_to(numbers, products.shape)])
        if best.shape[1] > top:
            keep = np.argpartition(-best, top - 1, axis=1)[:, :top]
            best = np.take_along_axis(best, keep, axis=1)
            rows = np.take_along_axis(rows, keep, axis=1)
        start += len(block)
    return rows
