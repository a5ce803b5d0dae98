"""Two coordinates for each image: features by principal components, or by UMAP."""

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from deeplens_tf.errors import DataError, RequestError

SEED, NEIGHBORS, MIN_DISTANCE = 0, 15, 0.1
MIN_UMAP_IMAGES = 5
"""With fewer, the graph of neighbors has less to say than it needs for two dimensions."""

_NO_VARIANCE = 1e-12  # of a component, as a share of all: what rounding leaves of none
METHODS = ("pca", "umap")


@dataclass(frozen=True)
class Principal:
    """Principal components.

    Attributes:
        coordinates: shape (images, 2).
        explained: share of the variance of each of the two, from 0 to 1.
    """

    coordinates: NDArray[np.float64]
    explained: tuple[float, float]


def require_umap(asked: bool) -> bool:
    """Return whether UMAP is installed.

    Raises:
        RequestError: it is not, although it was asked for.
    """
    installed = importlib.util.find_spec("umap") is not None
    if asked and not installed:
        raise RequestError("--method umap: needs umap-learn: pip install 'deeplens_tf[map]'")
    return installed


def require_spread(features: NDArray[np.float32]) -> None:
    """Refuse features that no map can show.

    Raises:
        DataError: of fewer than two images, or all equal.
    """
    if len(features) < 2:
        raise DataError("a map needs 2 images or more, and the embeddings have one")
    if (features == features[0]).all():
        raise DataError("all images have the same features: the encoder tells none apart")


def principal_components(features: NDArray[np.float32]) -> Principal:
    """Return the first two principal components of features, which are centered, not scaled.

    The sign of a component, which is free, is the one that makes the largest of its weights, by
    magnitude, positive. A component without variance, as the second of a single feature, is 0.

    Args:
        features: shape (images, dim), finite, not all equal.
    """
    values = np.asarray(features, np.float64)
    values = values / np.abs(values).max()  # squares of float32 stay in range
    count = min(2, *values.shape)
    found = PCA(count, svd_solver="full").fit(values)
    explained = found.explained_variance_ratio_
    largest = np.abs(found.components_).argmax(axis=1)
    signs = np.sign(found.components_[np.arange(count), largest])
    coordinates = (values - values.mean(axis=0)) @ (found.components_.T * signs)
    coordinates = np.where(explained > _NO_VARIANCE, coordinates, 0) * np.abs(features).max()
    shares = [share if share > _NO_VARIANCE else 0.0 for share in map(float, explained)]
    return Principal(_two(coordinates), (shares[0], (*shares, 0.0)[1]))


def umap_coordinates(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the two coordinates of UMAP (McInnes et al. 2018, arXiv:1802.03426).

    Distances are Euclidean, as for principal components. The seed is fixed and one thread
    computes, so that the same features give the same coordinates on the same machine.

    Args:
        features: shape (images, dim), finite, of `MIN_UMAP_IMAGES` or more.
    """
    import umap  # imports numba, for seconds

    values = np.asarray(features, np.float64)
    scaled = ((values - values.mean(axis=0)) / np.abs(values).max()).astype(np.float32)
    how: dict[str, Any] = {
        "n_neighbors": min(NEIGHBORS, len(features) - 1),
        "min_dist": MIN_DISTANCE,
    }
    how |= {"random_state": SEED, "n_jobs": 1, "init": _start(scaled)}
    return np.asarray(umap.UMAP(**how).fit_transform(scaled), np.float64)


def _start(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return where UMAP starts: at the principal components, with copies a little apart."""
    start = principal_components(values).coordinates
    noise = np.random.default_rng(SEED).normal(0, 1e-3, start.shape)
    return (10 * (start / np.abs(start).max() + noise)).astype(np.float32)


def _two(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(coordinates, ((0, 0), (0, 2 - coordinates.shape[1])))
