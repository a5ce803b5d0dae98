"""The most similar rows, beside NumPy in float64 and scikit-learn, and where rounding decides."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from deeplens_tf.inference import nearest
from deeplens_tf.inference.nearest import most_similar


def cosines(features, query):
    features, query = features.astype(np.float64), query.astype(np.float64)
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
    return (features * query).sum(axis=1) / norms


@pytest.mark.parametrize(("rows", "top"), [(1000, 12), (7, 12), (2, 1)])
def test_they_are_those_of_scikit_learn(rows, top, monkeypatch):
    monkeypatch.setattr(nearest, "SEARCH_ROWS", 100)
    features = np.random.default_rng(0).normal(size=(rows, 24)).astype(np.float32)
    found, similarities = most_similar(features, features[1], top, left_out=1)
    count = min(top, rows - 1)
    other = NearestNeighbors(n_neighbors=count + 1, metric="cosine", algorithm="brute")
    distances, expected = other.fit(features.astype(np.float64)).kneighbors(features[1:2])
    assert found.tolist() == [row for row in expected[0] if row != 1]
    np.testing.assert_allclose(1 - similarities, distances[0][expected[0] != 1], atol=1e-12)


def test_differences_below_the_rounding_of_float32_are_in_order():
    """As of a collapsed encoder, whose features are nearly those of one image."""
    generator = np.random.default_rng(1)
    features = (1 + 1e-5 * generator.normal(size=(3000, 200))).astype(np.float32)
    found, similarities = most_similar(features, features[0], 50)
    expected = cosines(features, features[0])
    np.testing.assert_allclose(similarities, np.sort(expected)[::-1][:50], rtol=0, atol=1e-15)
    assert found[0] == 0
    assert (np.diff(expected[found]) <= 1e-15).all()


def test_copies_come_first_in_the_order_of_the_table():
    features = np.random.default_rng(2).normal(size=(500, 8)).astype(np.float32)
    features[[400, 17, 255]] = features[100]
    found, similarities = most_similar(features, features[100], 4, left_out=100)
    assert found[:3].tolist() == [17, 255, 400]
    np.testing.assert_allclose(similarities[:3], 1, rtol=0, atol=1e-15)
    assert similarities[3] < 0.999


def test_features_of_any_size_and_zeros_have_their_direction():
    features = np.random.default_rng(3).normal(size=(50, 6)).astype(np.float32)
    plain, _ = most_similar(features, features[0], 10)
    scales = np.geomspace(1e-30, 1e30, 50).astype(np.float32)[:, None]
    scaled, _ = most_similar(features * scales, features[0] * np.float32(1e30), 10)
    assert scaled.tolist() == plain.tolist()
    features[7] = 0
    found, similarities = most_similar(features, features[0], 50)
    assert similarities[found.tolist().index(7)] == 0
    for query in (np.zeros(6, np.float32), np.ones(5, np.float32)):
        with pytest.raises(ValueError, match="query must have 6 features that are not all zero"):
            most_similar(features, query, 3)
