"""Pretexts against NumPy and SciPy, and what their random numbers follow from."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from deeplens_tf.augment import TRANSFORMS, draw_batch, one_view, rotate, transform, two_views
from deeplens_tf.config import AugmentConfig, load_config

PRETEXTS = ("flip", "rot90", "rotation", "crop", "brightness", "gaussian_noise")


@pytest.fixture(scope="module")
def settings() -> AugmentConfig:
    return load_config("defaults").augment


def with_views(settings, *names, **changes):
    return replace(settings, views=names, **changes)


def images_of(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def draws_of(settings, count, shape=(8, 8, 1), seed=0, epoch=0, view=1):
    # As a graph, as in tf.data: thousands of draws one by one are slow otherwise.
    draws = tf.function(draw_batch)(tf.range(count), seed, epoch, view, shape, settings)
    return {name: values.numpy() for name, values in draws.items()}


def view_of(images, indices, settings, seed=5, epoch=2, view=1):
    return one_view(tf.constant(images), tf.constant(indices), seed, epoch, view, settings).numpy()


def naive_rotation(image, angle_rad):
    """Read each output pixel at the place it comes from, in float64."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(float)
    up, right = (height - 1) / 2 - rows, columns - (width - 1) / 2
    # Counter-clockwise by the angle: the source lies clockwise of the output pixel.
    source_right = np.cos(angle_rad) * right + np.sin(angle_rad) * up
    source_up = -np.sin(angle_rad) * right + np.cos(angle_rad) * up
    places = [(height - 1) / 2 - source_up, source_right + (width - 1) / 2]
    bands = [
        ndimage.map_coordinates(image[..., band].astype(float), places, order=1, mode="reflect")
        for band in range(image.shape[2])
    ]
    return np.stack(bands, axis=-1)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 9, 2)])
@pytest.mark.parametrize(("horizontal", "vertical"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_flip_is_numpys(shape, horizontal, vertical):
    images = images_of(3, *shape)
    flips = tf.constant([[bool(horizontal), bool(vertical)]] * 3)
    expected = images
    if horizontal:
        expected = np.flip(expected, 2)
    if vertical:
        expected = np.flip(expected, 1)
    np.testing.assert_array_equal(TRANSFORMS["flip"](images, flips), expected)


def test_flips_that_are_switched_off_do_not_happen(settings):
    flip = replace(settings.flip, vertical=False)
    flips = draws_of(with_views(settings, "flip", flip=flip), 200)["flip"]
    assert not flips[:, 1].any()
    assert 70 < flips[:, 0].sum() < 130


@pytest.mark.parametrize("bands", [1, 3])
def test_rot90_is_numpys_and_all_turns_come_up(settings, bands):
    images = images_of(64, 8, 8, bands)
    turns = draws_of(with_views(settings, "rot90"), 64)["rot90"]
    assert set(turns) == {0, 1, 2, 3}
    turned = TRANSFORMS["rot90"](images, tf.constant(turns)).numpy()
    for image, view, turn in zip(images, turned, turns, strict=True):
        np.testing.assert_array_equal(view, np.rot90(image, turn))


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3])
def test_a_rotation_by_right_angles_is_numpys_rot90(turns):
    images = images_of(2, 9, 9, 2)
    angles = tf.fill((2,), np.float32(turns * np.pi / 2))
    expected = np.rot90(images, turns, axes=(1, 2))
    np.testing.assert_allclose(rotate(tf.constant(images), angles), expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(16, 16, 1), (12, 17, 3)])
@pytest.mark.parametrize("degrees", [3.0, -20.0, 45.0, 133.0, -179.0])
def test_a_rotation_is_scipys_with_reflection_up_to_the_border(shape, degrees):
    images = images_of(2, *shape)
    rotated = rotate(tf.constant(images), tf.fill((2,), np.float32(np.deg2rad(degrees))))
    expected = [naive_rotation(image, np.deg2rad(degrees)) for image in images]
    np.testing.assert_allclose(rotated, expected, atol=2e-5)


def test_each_image_is_rotated_by_its_own_angle():
    images = images_of(3, 10, 10, 1)
    angles = np.array([0.3, -1.2, 2.5], np.float32)
    expected = [naive_rotation(image, angle) for image, angle in zip(images, angles, strict=True)]
    np.testing.assert_allclose(rotate(tf.constant(images), angles), expected, atol=2e-5)


@pytest.mark.parametrize("degrees", [180.0, 15.0])
def test_angles_are_uniform_within_the_limit(settings, degrees):
    rotation = replace(settings.rotation, degrees=degrees)
    angles = np.rad2deg(
        draws_of(with_views(settings, "rotation", rotation=rotation), 3000)["rotation"]
    )
    assert stats.kstest(angles, stats.uniform(-degrees, 2 * degrees).cdf).pvalue > 0.01


def test_noise_is_normal_of_the_set_deviation_and_clipped(settings):
    noise = draws_of(with_views(settings, "gaussian_noise"), 20, (32, 32, 2))["gaussian_noise"]
    assert noise.shape == (20, 32, 32, 2)
    assert stats.kstest(noise.ravel() / 0.1, "norm").pvalue > 0.01
    images = images_of(20, 32, 32, 2)
    added = TRANSFORMS["gaussian_noise"](images, tf.constant(noise))
    np.testing.assert_array_equal(added, np.clip(images + noise, 0, 1))


def test_noise_differs_between_pixels_bands_and_examples(settings):
    noise = draws_of(with_views(settings, "gaussian_noise"), 4, (8, 8, 3))["gaussian_noise"]
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_brightness_moves_an_image_as_a_whole_within_the_limit(settings):
    changes = draws_of(with_views(settings, "brightness"), 2000)["brightness"]
    assert stats.kstest(changes, stats.uniform(-0.2, 0.4).cdf).pvalue > 0.01
    images = images_of(2000, 2, 2, 1)
    moved = TRANSFORMS["brightness"](images, tf.constant(changes))
    np.testing.assert_array_equal(moved, np.clip(images + changes[:, None, None, None], 0, 1))


def test_a_crop_of_a_ramp_is_a_flatter_ramp_inside_it(settings):
    rows, columns = np.mgrid[:9, :17].astype(np.float32)
    image = np.stack([rows / 8, columns / 16], axis=-1)
    views = view_of(np.repeat(image[None], 300, 0), np.arange(300), with_views(settings, "crop"))
    down, across = np.diff(views[..., 0], axis=1), np.diff(views[..., 1], axis=2)
    for slopes in (down, across):
        np.testing.assert_allclose(np.ptp(slopes, axis=(1, 2)), 0, atol=1e-5)
    sides = down.mean(axis=(1, 2)) * 8, across.mean(axis=(1, 2)) * 16  # share that is kept
    np.testing.assert_allclose(sides[0], sides[1], atol=1e-4)
    assert stats.kstest(sides[0] ** 2, stats.uniform(0.6, 0.4).cdf).pvalue > 0.01
    assert views.min() >= 0
    assert views.max() <= 1


def test_crops_reach_both_ends_of_the_image(settings):
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32)[:, None], (1, 16))[..., None]
    views = view_of(np.repeat(ramp[None], 400, 0), np.arange(400), with_views(settings, "crop"))
    assert views.min() < 0.01
    assert views.max() > 0.99
    starts = views[:, 0, 0, 0] / (1 - (views[:, -1, 0, 0] - views[:, 0, 0, 0]))
    assert stats.kstest(starts, "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", PRETEXTS)
def test_the_two_views_differ(settings, name):
    images = images_of(8, 8, 8, 1)
    first, second = two_views(images, tf.range(8), 0, 0, with_views(settings, name))
    assert np.abs(first - second).max() > 0


@pytest.mark.parametrize("name", PRETEXTS)
def test_a_view_follows_from_seed_epoch_and_index(settings, name):
    images, indices = images_of(8, 8, 8, 1), np.arange(8)
    chosen = with_views(settings, name)
    view = view_of(images, indices, chosen)
    np.testing.assert_array_equal(view, view_of(images, indices, chosen))
    for change in ({"seed": 6}, {"epoch": 3}, {"view": 2}):
        assert (view != view_of(images, indices, chosen, **change)).any(), change
    assert (view != view_of(images, indices + 100, chosen)).any()


def test_seed_epoch_and_index_cannot_stand_in_for_each_other(settings):
    chosen = with_views(settings, "brightness")
    words = [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1), (0, 0, 0, 2), (0, 0, 0, 1)]
    draws = [
        draw_batch(tf.constant([index]), seed, epoch, view, (8, 8, 1), chosen)["brightness"][0]
        for seed, epoch, index, view in words
    ]
    assert len(set(map(float, draws))) == len(words)


def test_a_view_does_not_depend_on_the_batch_it_is_made_in(settings):
    images, chosen = images_of(10, 8, 8, 2), with_views(settings, *PRETEXTS)
    together = view_of(images, np.arange(10), chosen)
    order = np.random.default_rng(0).permutation(10)
    turned_round = view_of(images[order], order, chosen)
    alone = np.concatenate([view_of(images[i : i + 1], [i], chosen) for i in range(10)])
    # Not bit for bit: a vectorised cosine rounds by its place in the vector.
    np.testing.assert_allclose(turned_round, together[order], atol=1e-6)
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_random_numbers_do_not_depend_on_the_batch_at_all(settings):
    chosen = with_views(settings, *PRETEXTS)
    together = draws_of(chosen, 10)
    last = draw_batch(tf.constant([9]), 0, 0, 1, (8, 8, 1), chosen)
    for name in PRETEXTS:
        np.testing.assert_array_equal(last[name][0], together[name][9])


@pytest.mark.parametrize("order", [("gaussian_noise", "flip"), ("flip", "gaussian_noise")])
def test_pretexts_are_applied_in_the_order_of_the_list(settings, order):
    images = images_of(12, 8, 8, 1)
    draws = draws_of(with_views(settings, *order), 12)
    assert tuple(draws) == order
    expected = images
    for name in order:
        expected = TRANSFORMS[name](expected, tf.constant(draws[name]))
    view = transform(tf.constant(images), {name: tf.constant(d) for name, d in draws.items()})
    np.testing.assert_array_equal(view, expected)
    backwards = images
    for name in reversed(order):
        backwards = TRANSFORMS[name](backwards, tf.constant(draws[name]))
    assert (view != backwards).numpy().any()


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 5), (6, 10, 2)])
def test_views_keep_shape_and_range_for_any_bands_and_sides(settings, shape):
    names = [name for name in PRETEXTS if name != "rot90" or shape[0] == shape[1]]
    images = images_of(30, *shape)
    for view in two_views(images, tf.range(30), 1, 1, with_views(settings, *names)):
        assert view.shape == images.shape
        assert view.dtype == tf.float32
        assert 0 <= np.min(view) <= np.max(view) <= 1


def test_without_pretexts_a_view_is_the_image_itself(settings):
    images = images_of(3, 8, 8, 1)
    np.testing.assert_array_equal(view_of(images, np.arange(3), with_views(settings)), images)
