"""Two coordinates for each image: principal components against NumPy's, and what UMAP is given."""

import sys
import types

import numpy as np
import pytest

from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.inference import map_coordinates
from deeplens_tf.inference.map_coordinates import (
    principal_components,
    require_spread,
    require_umap,
    umap_coordinates,
)

FEATURES = np.random.default_rng(0).normal(3, [5, 0.1, 2, 1], (40, 4)).astype(np.float32)


def test_principal_components_are_those_of_the_covariance_matrix():
    values = FEATURES.astype(float)
    variances, axes = np.linalg.eigh(np.cov(values.T))
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])  # the largest weight, positive
    found = principal_components(FEATURES)
    expected = (values - values.mean(axis=0)) @ axes
    np.testing.assert_allclose(found.coordinates, expected, rtol=1e-9, atol=1e-9)
    shares = variances[::-1][:2] / variances.sum()
    np.testing.assert_allclose(found.explained, shares, rtol=1e-9)


def test_neither_the_order_nor_the_unit_of_features_turns_a_component_round():
    found = principal_components(FEATURES).coordinates
    backwards = principal_components(FEATURES[::-1]).coordinates[::-1]
    np.testing.assert_allclose(backwards, found, atol=1e-9)
    large = principal_components(FEATURES * np.float32(2.0**110)).coordinates
    np.testing.assert_allclose(large / 2.0**110, found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("features", [FEATURES[:, :1], FEATURES[:2], FEATURES[:2, :1]])
def test_what_has_one_dimension_keeps_its_distances_and_nothing_else(features):
    found = principal_components(features)
    assert found.explained == pytest.approx((1, 0))
    assert (found.coordinates[:, 1] == 0).all()
    expected = np.linalg.norm(features.astype(float) - features[0], axis=1)
    np.testing.assert_allclose(np.abs(found.coordinates[:, 0] - found.coordinates[0, 0]), expected)


@pytest.mark.parametrize(
    ("features", "line"),
    [(FEATURES[:1], "2 images or more"), (np.ones((9, 3), np.float32), "the same features")],
)
def test_features_without_spread_are_refused(features, line):
    with pytest.raises(DataError, match=line):
        require_spread(features)


def test_without_umap_only_asking_for_it_is_wrong(monkeypatch):
    monkeypatch.setattr(map_coordinates.importlib.util, "find_spec", lambda name: None)
    assert require_umap(asked=False) is False
    with pytest.raises(RequestError, match=r"needs umap-learn: pip install 'deeplens_tf\[map\]'"):
        require_umap(asked=True)


def test_umap_is_given_a_seed_one_thread_and_a_start_for_every_image(monkeypatch):
    given = {}

    class Recorder:
        def __init__(self, **how):
            given.update(how)

        def fit_transform(self, values):
            return values[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Recorder))
    copies = np.repeat(FEATURES[:2], 3, axis=0) * np.float32(1e30)
    found = umap_coordinates(copies)
    assert (given["random_state"], given["n_jobs"], given["n_neighbors"]) == (0, 1, 5)
    assert len(np.unique(given["init"], axis=0)) == 6  # copies do not start at one place
    assert np.abs(given["init"]).max() < 11
    assert np.isfinite(found).all() and np.abs(found).max() <= 2


@pytest.fixture
def interpreted(monkeypatch):
    """Import UMAP without numba's compiler, which takes longer than all that is computed here."""
    config = pytest.importorskip("numba").config
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    pytest.importorskip("umap", exc_type=ImportError)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of its random numbers
def test_umap_keeps_neighbors_together_and_repeats_itself(interpreted):
    labels = np.repeat([0, 1, 2], 6)
    generator = np.random.default_rng(1)
    features = (10 * np.eye(5)[labels] + generator.normal(0, 1, (18, 5))).astype(np.float32)
    found = umap_coordinates(features)
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(axis=1)[:, :3]
    assert (labels[nearest] == labels[:, None]).all()
    np.testing.assert_array_equal(umap_coordinates(features), found)
    for few in (features[:5], features[:6, :1], np.repeat(features[:2], 3, axis=0)):
        assert np.isfinite(umap_coordinates(few)).all()
