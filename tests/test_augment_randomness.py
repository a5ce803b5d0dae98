"""Random numbers of a batch against SplitMix64 in NumPy, and against their distributions."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from deeplens_tf.augment import fold_in, normal, uniform, whole_numbers
from deeplens_tf.augment.randomness import key_of, orders

GOLDEN = 0x9E3779B97F4A7C15
MASK_64 = 2**64 - 1
# The first outputs for the seed 1234567, as in https://rosettacode.org/wiki/Pseudo-random_numbers
PUBLISHED = (6457827717110365317, 3203168211198807973, 9817491932198370423)


class SplitMix64:
    """The generator as its paper defines it: one state, one number after the other."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + GOLDEN) & MASK_64
        return mixed(self.state)


def mixed(word):
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK_64
    return word ^ (word >> 31)


def naive_fold_in(key, number):
    return mixed(mixed(key) ^ mixed((number + GOLDEN) & MASK_64))


def words_of(key, count):
    generator = SplitMix64(key)
    return [generator.next() for _ in range(count)]


def keys_of(*keys):
    return tf.constant(keys, tf.uint64)


KEYS = (0, 1, 1234567, 2**63, MASK_64)


def test_the_reference_is_the_published_generator():
    assert tuple(words_of(1234567, 3)) == PUBLISHED


@pytest.mark.parametrize("in_graph", [False, True])
def test_numbers_are_splitmixs_bit_for_bit(in_graph):
    draw = tf.function(uniform) if in_graph else uniform
    expected = [[(word >> 40) * 2.0**-24 for word in words_of(key, 6)] for key in KEYS]
    found = draw(keys_of(*KEYS), (2, 3)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.reshape(5, 6), expected)


def test_whole_numbers_are_splitmixs_bit_for_bit():
    for bound in (1, 4, 7, 2**31):
        expected = [[((word >> 32) * bound) >> 32 for word in words_of(key, 9)] for key in KEYS]
        np.testing.assert_array_equal(whole_numbers(keys_of(*KEYS), (9,), bound), expected)


@pytest.mark.parametrize("bound", [0, -1, 2**31 + 1])
def test_a_bound_that_no_int32_stays_below_is_refused(bound):
    with pytest.raises(ValueError, match=r"bound must be from 1 to 2\*\*31\. Received"):
        whole_numbers(keys_of(*KEYS), (2,), bound)


def test_normal_numbers_are_those_of_box_and_muller():
    found = normal(keys_of(*KEYS), (5, 7)).numpy()
    for key, numbers in zip(KEYS, found.reshape(5, 35), strict=True):
        words = np.array(words_of(key, 32), object)
        radius = np.sqrt(-2 * np.log(((words >> 40) + 1).astype(float) * 2.0**-24))
        angle = 2 * np.pi * ((words >> 16) % 2**24).astype(float) * 2.0**-24
        expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        np.testing.assert_allclose(numbers, expected[:35], atol=2e-6)


def test_orders_sort_the_words_as_signed_numbers():
    for key, order in zip(KEYS, orders(keys_of(*KEYS), 20).numpy(), strict=True):
        signed = np.array(words_of(key, 20), np.uint64).astype(np.int64)
        np.testing.assert_array_equal(order, np.argsort(signed))


@pytest.mark.parametrize("number", [0, 1, 7, 2**40, -1])
def test_fold_in_is_that_of_integers(number):
    expected = [naive_fold_in(key, number) for key in KEYS]
    assert fold_in(keys_of(*KEYS), number).numpy().tolist() == expected


def test_the_key_of_a_purpose_is_folded_from_seed_purpose_and_epoch():
    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])  # as in tf.data
    def traced(epoch):
        return key_of(5, epoch, 2)

    expected = naive_fold_in(naive_fold_in(naive_fold_in(0, 5), 2), 7)
    assert int(key_of(5, 7, 2)) == int(traced(7)) == expected


def test_numbers_of_an_example_do_not_depend_on_its_batch():
    keys = fold_in(tf.constant(3, tf.uint64), tf.range(37))
    for draw in (
        lambda keys: uniform(keys, (5,)),
        lambda keys: normal(keys, (3, 3)),  # no whole number of vectors
        lambda keys: whole_numbers(keys, (5,), 10),
        lambda keys: orders(keys, 9),
    ):
        together = draw(keys).numpy()
        for i in range(37):
            np.testing.assert_array_equal(draw(keys[i : i + 1])[0], together[i])
        np.testing.assert_array_equal(draw(keys[11:30]), together[11:30])


@pytest.mark.parametrize(("low", "high"), [(-0.2, 0.2), (1.0, 1.0000001), (0.0, 0.0), (1e6, 1e6)])
def test_uniform_numbers_stay_below_the_upper_bound(low, high):
    numbers = uniform(fold_in(tf.constant(0, tf.uint64), tf.range(200)), (500,), low, high).numpy()
    low, high = np.float32(low), np.float32(high)
    assert (numbers >= low).all()
    assert (numbers < high).all() if low < high else (numbers == low).all()


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match=r"high must be at least low. Received: low=1, high=0"):
        uniform(keys_of(1), (), 1, 0)


def test_numbers_have_their_distributions():
    keys = fold_in(tf.constant(1, tf.uint64), tf.range(2000))
    flat = uniform(keys, (100,)).numpy().ravel().astype(float)
    assert stats.kstest(flat, "uniform").pvalue > 0.01
    bell = normal(keys, (101,)).numpy().ravel().astype(float)
    assert stats.kstest(bell, "norm").pvalue > 0.01
    moments = [bell.mean(), bell.var(), stats.skew(bell), stats.kurtosis(bell)]
    errors = np.sqrt(np.array([1, 2, 6, 24]) / bell.size)
    assert (np.abs(moments - np.array([0, 1, 0, 0])) < 4 * errors).all()
    counts = np.bincount(whole_numbers(keys, (100,), 6).numpy().ravel(), minlength=6)
    assert stats.chisquare(counts).pvalue > 0.01
    first = orders(keys, 5).numpy()
    np.testing.assert_array_equal(np.sort(first, axis=1), np.tile(np.arange(5), (2000, 1)))
    ranks = (first @ 5 ** np.arange(5)).tolist()
    assert stats.chisquare(np.unique(ranks, return_counts=True)[1]).pvalue > 0.01
    assert len(set(ranks)) == 120


def draws(seed=0, epoch=0, view=1, place=0, indices=range(20000)):
    keys = fold_in(fold_in(key_of(seed, epoch, view), tf.constant(list(indices))), place)
    return uniform(keys).numpy().astype(float) - 0.5


@pytest.mark.parametrize(
    "other",
    [
        {"indices": range(1, 20001)},
        {"epoch": 1},
        {"view": 2},
        {"place": 1},
        {"seed": 1},
        {"epoch": 1, "indices": range(1, 20001)},
        {"seed": 1, "epoch": -1},
    ],
)
def test_neighbours_have_unrelated_numbers(other):
    one, two = draws(), draws(**other)
    assert stats.kstest(two + 0.5, "uniform").pvalue > 0.01
    for left, right in ((one, two), (np.abs(one), np.abs(two))):
        assert abs(stats.pearsonr(left, right)[0]) < 4 / np.sqrt(20000)


def test_numbers_of_one_key_and_of_its_children_are_unrelated():
    keys = fold_in(key_of(0, 0, 1), tf.range(20000))
    columns = uniform(keys, (4,)).numpy()
    folded = [uniform(fold_in(keys, number)).numpy() for number in (-2, -1, 0, 1)]
    related = np.corrcoef(np.concatenate([columns, np.stack(folded, axis=1)], axis=1).T)
    assert np.abs(related - np.eye(8)).max() < 4.5 / np.sqrt(20000)
