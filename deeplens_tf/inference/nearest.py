"""The rows of a table of features that are most like a vector, by cosine similarity, exactly."""

import numpy as np
from numpy.typing import NDArray

SEARCH_ROWS = 2048  # that are compared at once, which the cache of a processor holds
_EPSILON = float(np.finfo(np.float32).eps)


def most_similar(
    features: NDArray[np.float32],
    query: NDArray[np.float32],
    top: int,
    left_out: int | None = None,
    among: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows whose cosine similarity to a vector is largest, the most similar first.

    Rows are compared in float32; those that rounding could have moved among the first are
    compared again in float64, so that the result is that of float64. Rows with equal similarities
    are in the order of the table. A row of zeros, which has no direction, has similarity 0.

    Args:
        features: shape (rows, dim), finite; may be mapped from a file.
        query: shape (dim,), not all zero.
        top: number of rows to return; fewer if there are fewer.
        left_out: a row that is not returned.
        among: rows that are compared, in increasing order; None for all.

    Returns:
        The rows, and their similarities from -1 to 1.

    Raises:
        ValueError: a query of zeros, or one of another length.
    """
    if query.shape != features.shape[1:] or not query.any():
        raise ValueError(
            f"query must have {features.shape[1]} features that are not all zero. "
            f"Received: shape {query.shape}"
        )
    rows = np.arange(len(features)) if among is None else among
    rough = _cosines(features, query, np.dtype(np.float32), among)
    if left_out is not None:
        rough[rows == left_out] = -np.inf
    top = min(top, int(np.count_nonzero(rough > -np.inf)))
    if top < 1:
        return np.empty(0, np.int64), np.empty(0)
    # The rounding of a product, of a square and of a root of `dim` terms each.
    margin = 4 * (features.shape[1] + 4) * _EPSILON
    least = np.partition(rough, len(rough) - top)[len(rough) - top] - margin
    candidates = rows[rough >= least]
    exact = _cosines(features, query, np.dtype(np.float64), candidates)
    order = np.argsort(-exact, kind="stable")[:top]
    return candidates[order], np.clip(exact[order], -1, 1)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the direction of each row, shape (rows, dim); zeros stay zeros."""
    block, norms = _norms(np.asarray(rows))
    return (block / np.where(norms > 0, norms, 1)[:, np.newaxis]).astype(np.float32)


def _cosines(
    features: NDArray[np.float32],
    query: NDArray[np.float32],
    dtype: np.dtype,
    among: NDArray[np.int64] | None,
) -> NDArray:
    """Return the cosine of each row with the query, shape (rows,), in the given type."""
    scaled = query.astype(np.float64) / np.abs(query).max()
    unit = (scaled / np.linalg.norm(scaled)).astype(dtype)
    found = np.empty(len(features) if among is None else len(among), dtype)
    for start in range(0, len(found), SEARCH_ROWS):
        part = slice(start, start + SEARCH_ROWS)
        rows = features[part if among is None else among[part]]
        block, norms = _norms(np.asarray(rows, dtype))
        found[part] = block @ unit.astype(block.dtype) / np.where(norms > 0, norms, 1)
    return found


def _norms(block: NDArray) -> tuple[NDArray, NDArray]:
    """Return rows and their lengths, in float64 where float32 does not hold them."""
    # float32 squares of features beyond 1e19, or below 1e-22, leave its range.
    norms = np.sqrt(np.einsum("ij,ij->i", block, block))
    if not (norms < np.inf).all() or (norms < 1e-15).any():
        block = block.astype(np.float64)
        norms = np.linalg.norm(block, axis=1)
    return block, norms
