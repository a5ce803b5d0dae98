"""The orders of patches that masked views come with: from (seed, epoch, index, view) alone."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import deeplens_tf as dl
from deeplens_tf.augment import patch_orders
from deeplens_tf.data.batches import (
    pretraining_batches,
    view_batches,
)
from deeplens_tf.data.image_data import Share
from deeplens_tf.data.streams import Position
from tests.test_augment_randomness import naive_fold_in, words_of

AUGMENT = dl.augment.Augment(["flip"], view_2=["brightness"])
MASKED = {"patches": 16, "masked_views": True}
ORDERS = ("patch_order_1", "patch_order_2")
COUNT = 40


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).normal(size=(COUNT, 8, 8)).astype("float32")
    return dl.data.from_arrays(images, np.arange(COUNT) % 2, validation_fraction=0.2, seed=3)


def stream(data, batch_size=8, epochs=2, split="train", **options):
    options = {**MASKED, **options}
    batches = pretraining_batches(data, split, AUGMENT, batch_size, epochs, **options)
    return list(batches.as_numpy_iterator())


def by_image(batches):
    rows = [zip(*(batch[key] for key in ("image", *ORDERS)), strict=True) for batch in batches]
    return {image.tobytes(): np.stack(orders) for part in rows for image, *orders in part}


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for batch, other in zip(ours, theirs, strict=True):
        assert batch.keys() == other.keys()
        for name, values in batch.items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_orders_come_beside_both_views_and_change_nothing_else(data):
    masked = stream(data)
    plain = stream(data, patches=0, masked_views=False)
    assert set(masked[0]) == {"image", "label", "view_1", "view_2", *ORDERS}
    assert_same([{k: v for k, v in batch.items() if k not in ORDERS} for batch in masked], plain)


def test_each_is_a_permutation_of_its_own(data):
    orders = np.concatenate([batch[key] for batch in stream(data) for key in ORDERS])
    assert orders.dtype == np.int32
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(16), (len(orders), 1)))
    assert len({order.tobytes() for order in orders}) == len(orders)  # views, images and epochs


def test_they_follow_from_seed_epoch_and_image_whatever_the_batch(data):
    stored = by_image(stream(data, epochs=None))
    keras.utils.set_random_seed(9)  # global state must not matter
    shuffled = by_image(stream(data, 5, epochs=1))
    shared = stored.keys() & shuffled.keys()
    assert len(shared) > 25
    assert all((stored[image] == shuffled[image]).all() for image in shared)
    other = by_image(stream(replace(data, seed=4), epochs=None))
    assert not any((stored[image] == other[image]).all(axis=1).any() for image in shared)


def test_they_are_splitmixs_under_keys_of_no_other_purpose():
    indices, seed, epoch = range(5), 5, 7
    for view, purpose in ((1, 4), (2, 5)):
        key = naive_fold_in(naive_fold_in(naive_fold_in(0, seed), purpose), epoch)
        found = patch_orders(tf.constant(list(indices)), seed, epoch, 12, view).numpy()
        for index, order in zip(indices, found, strict=True):
            words = np.array(words_of(naive_fold_in(key, index), 12), np.uint64)
            np.testing.assert_array_equal(order, np.argsort(words.astype(np.int64)))


def test_a_resumed_stream_and_the_shares_of_workers_have_the_same(data):
    whole = stream(data)
    assert_same(stream(data, start=Position(1, 1)), whole[-3:])
    halves = [stream(replace(data, share=Share(i, 2))) for i in range(2)]
    joined = [
        {name: np.concatenate([first[name], second[name]]) for name in first}
        for first, second in zip(*halves, strict=True)
    ]
    assert_same(joined, whole)


def test_view_batches_and_the_stream_have_the_same(data):
    batches = view_batches(data, AUGMENT, 8, **MASKED)
    shown = [list(batches.as_numpy_iterator()) for _ in range(2)]
    assert_same([*shown[0], *shown[1]], stream(data))
    validation = view_batches(data, AUGMENT, 4, split="validation", **MASKED)
    expected = stream(data, 4, epochs=None, split="validation")
    assert_same(list(validation.as_numpy_iterator()), expected)


def test_each_patch_is_kept_as_often_as_any_other_and_views_are_independent():
    count, patches, kept = 20000, 16, 4
    first, second = (
        patch_orders(tf.range(count), 0, 0, patches, view)[:, :kept].numpy() for view in (1, 2)
    )
    for orders in (first, second):
        counts = np.bincount(orders.ravel(), minlength=patches)
        # Of counts without replacement: their variance is that of a binomial.
        share = kept / patches
        chi = np.sum((counts - count * share) ** 2) / (count * share * (1 - share))
        assert stats.chi2(patches - 1).sf(chi * (patches - 1) / patches) > 0.01
    for place in range(kept):
        cells = np.bincount(first[:, 0] * patches + second[:, place], minlength=patches**2)
        assert stats.chisquare(cells).pvalue > 0.001
    both = [len(set(one) & set(other)) for one, other in zip(first, second, strict=True)]
    expected = stats.hypergeom(patches, kept, kept).pmf(range(kept + 1)) * count
    assert stats.chisquare(np.bincount(both, minlength=kept + 1), expected).pvalue > 0.01


def test_masked_views_need_the_number_of_patches(data):
    with pytest.raises(ValueError, match=r"patches must be the encoder's patch_count .*patches=0"):
        view_batches(data, AUGMENT, 8, masked_views=True)


def test_a_masked_model_trains_by_plain_keras(data):
    encoder = dl.models.build_encoder("vit_nano", data.image_shape, patch_size=2)
    model = dl.models.ContrastiveModel(encoder, dl.models.projection_head(4), keep_tokens=0.5)
    model.compile("sgd", run_eagerly=True)
    batches = view_batches(data, AUGMENT, 8, patches=model.patch_count, masked_views=True)
    history = model.fit(batches, epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
