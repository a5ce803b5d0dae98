"""Batches of neighbours: whole, each example once, and nearer to each other than by chance."""

import numpy as np
import pytest

from deeplens_tf.data.neighbour_order import neighbour_batches


def clusters(count, size, dim=16, seed=0):
    """Return features around `count` orthogonal directions, mixed, and the cluster of each."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(count), size))
    noise = 0.01 * generator.standard_normal((count * size, dim))
    lengths = generator.uniform(0.1, 10, (count * size, 1))  # which do not count
    return lengths * (np.eye(dim)[labels] + noise), labels


def mean_similarity(features, order, batch_size):
    """Return the mean cosine of two examples of a batch, by a loop."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    pairs = [unit[a] @ unit[b] for batch in batches for a in batch for b in batch if a != b]
    return np.mean(pairs)


@pytest.mark.parametrize(("count", "size"), [(64, 8), (100, 8), (37, 5), (9, 9), (17, 16), (7, 1)])
def test_each_example_is_in_one_batch_but_for_the_remainder(count, size):
    features = np.random.default_rng(count).standard_normal((count, 6)).astype(np.float32)
    order = neighbour_batches(features, size, np.random.default_rng(0))
    assert order.shape == (count // size * size,)
    assert len(set(order.tolist())) == len(order)
    assert set(order.tolist()) <= set(range(count))


@pytest.mark.parametrize(("count", "size"), [(2, 24), (4, 24), (8, 6)])
def test_clusters_of_the_size_of_batches_are_batches(count, size):
    features, labels = clusters(count, size * 2)
    for seed in range(5):
        order = neighbour_batches(features, 2 * size, np.random.default_rng(seed))
        of_batches = labels[order].reshape(-1, 2 * size)
        # A cut through a cluster mixes two batches at most; most batches are of one cluster.
        purity = np.mean([np.bincount(batch).max() / (2 * size) for batch in of_batches])
        assert purity > 0.75
    random = np.random.default_rng(0).permutation(len(labels)).reshape(-1, 2 * size)
    assert np.mean([np.bincount(labels[b]).max() / (2 * size) for b in random]) < 0.7


def test_two_clusters_are_separated():
    features, labels = clusters(2, 32)
    for seed in range(5):
        order = neighbour_batches(features, 32, np.random.default_rng(seed))
        assert (np.ptp(labels[order].reshape(2, 32), axis=1) == 0).all()


def test_a_batch_is_more_alike_than_a_random_one():
    features = np.random.default_rng(1).standard_normal((512, 8))
    generator = np.random.default_rng(2)
    near = mean_similarity(features, neighbour_batches(features, 16, generator), 16)
    far = mean_similarity(features, generator.permutation(512), 16)
    assert abs(far) < 0.05
    assert near > 0.25


def test_the_first_cut_is_at_the_median_along_the_leading_axis():
    # Nearly on a line, so that the leading axis is known, and of unit length to first order.
    positions = np.random.default_rng(3).permutation(np.linspace(-0.1, 0.1, 40))
    features = np.stack([np.ones(40), positions], axis=1)
    order = neighbour_batches(features, 20, np.random.default_rng(4)).reshape(2, 20)
    low, high = sorted((positions[half] for half in order), key=np.mean)
    assert low.max() < 0 < high.min()


def test_the_order_follows_from_the_generator_and_differs_between_two():
    features = np.random.default_rng(5).standard_normal((96, 8))
    one, same, other = (
        neighbour_batches(features, 8, np.random.default_rng(seed)) for seed in (6, 6, 7)
    )
    np.testing.assert_array_equal(one, same)
    batches = [{frozenset(batch) for batch in order.reshape(-1, 8)} for order in (one, other)]
    assert not batches[0] & batches[1]


def test_features_that_are_all_alike_give_random_batches():
    order = neighbour_batches(np.zeros((20, 4)), 5, np.random.default_rng(8))
    assert sorted(order) == list(range(20))
    assert (np.ptp(order.reshape(4, 5), axis=1) > 4).any()
