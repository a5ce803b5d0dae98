"""Augmentations against NumPy and SciPy, and the origin of their random numbers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from deeplens_tf.augment import (
    AUGMENTATIONS,
    Augment,
    Brightness,
    Crop,
    Flip,
    GaussianNoise,
    QuarterTurn,
    Rotation,
    rotate,
)
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import build_augment

NAMES = ("flip", "rot90", "rotation", "crop", "brightness", "gaussian_noise")


def images_of(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def draws_of(augmentations, count, shape=(8, 8, 1), seed=0, epoch=0, view=1):
    # As a graph, as in tf.data: thousands of draws one by one are slow otherwise.
    draw = tf.function(Augment(augmentations).draw)
    return [values.numpy() for values in draw(tf.range(count), seed, epoch, view, shape)]


def view_of(images, indices, augmentations, seed=5, epoch=2, view=1):
    augment = Augment(augmentations)
    return augment.view(tf.constant(images), tf.constant(indices), seed, epoch, view).numpy()


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
    np.testing.assert_array_equal(Flip().apply(images, flips), expected)


def test_flips_that_are_switched_off_do_not_happen():
    (flips,) = draws_of([Flip(vertical=False)], 200)
    assert not flips[:, 1].any()
    assert 70 < flips[:, 0].sum() < 130


@pytest.mark.parametrize("bands", [1, 3])
def test_rot90_is_numpys_and_all_turns_come_up(bands):
    images = images_of(64, 8, 8, bands)
    (turns,) = draws_of(["rot90"], 64)
    assert set(turns) == {0, 1, 2, 3}
    turned = QuarterTurn().apply(images, tf.constant(turns)).numpy()
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
def test_angles_are_uniform_within_the_limit(degrees):
    angles = np.rad2deg(draws_of([Rotation(degrees)], 3000)[0])
    assert stats.kstest(angles, stats.uniform(-degrees, 2 * degrees).cdf).pvalue > 0.01


def test_noise_is_normal_of_the_set_deviation_and_clipped():
    (noise,) = draws_of(["gaussian_noise"], 20, (32, 32, 2))
    assert noise.shape == (20, 32, 32, 2)
    assert stats.kstest(noise.ravel() / 0.1, "norm").pvalue > 0.01
    images = images_of(20, 32, 32, 2)
    added = GaussianNoise().apply(images, tf.constant(noise))
    np.testing.assert_array_equal(added, np.clip(images + noise, 0, 1))


def test_noise_differs_between_pixels_bands_and_examples():
    (noise,) = draws_of(["gaussian_noise"], 4, (8, 8, 3))
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_brightness_moves_an_image_as_a_whole_within_the_limit():
    (changes,) = draws_of(["brightness"], 2000)
    assert stats.kstest(changes, stats.uniform(-0.2, 0.4).cdf).pvalue > 0.01
    images = images_of(2000, 2, 2, 1)
    moved = Brightness().apply(images, tf.constant(changes))
    np.testing.assert_array_equal(moved, np.clip(images + changes[:, None, None, None], 0, 1))


def test_a_crop_of_a_ramp_is_a_flatter_ramp_inside_it():
    rows, columns = np.mgrid[:9, :17].astype(np.float32)
    image = np.stack([rows / 8, columns / 16], axis=-1)
    views = view_of(np.repeat(image[None], 300, 0), np.arange(300), ["crop"])
    down, across = np.diff(views[..., 0], axis=1), np.diff(views[..., 1], axis=2)
    for slopes in (down, across):
        np.testing.assert_allclose(np.ptp(slopes, axis=(1, 2)), 0, atol=1e-5)
    sides = down.mean(axis=(1, 2)) * 8, across.mean(axis=(1, 2)) * 16  # share that is kept
    np.testing.assert_allclose(sides[0], sides[1], atol=1e-4)
    assert stats.kstest(sides[0] ** 2, stats.uniform(0.6, 0.4).cdf).pvalue > 0.01
    assert views.min() >= 0
    assert views.max() <= 1


def test_crops_reach_both_ends_of_the_image():
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32)[:, None], (1, 16))[..., None]
    views = view_of(np.repeat(ramp[None], 400, 0), np.arange(400), ["crop"])
    assert views.min() < 0.01
    assert views.max() > 0.99
    starts = views[:, 0, 0, 0] / (1 - (views[:, -1, 0, 0] - views[:, 0, 0, 0]))
    assert stats.kstest(starts, "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_two_views_differ(name):
    first, second = Augment([name]).two_views(images_of(8, 8, 8, 1), tf.range(8), 0, 0)
    assert np.abs(first - second).max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_view_follows_from_seed_epoch_and_index(name):
    images, indices, chosen = images_of(8, 8, 8, 1), np.arange(8), [name]
    view = view_of(images, indices, chosen)
    np.testing.assert_array_equal(view, view_of(images, indices, chosen))
    for change in ({"seed": 6}, {"epoch": 3}, {"view": 2}):
        assert (view != view_of(images, indices, chosen, **change)).any(), change
    assert (view != view_of(images, indices + 100, chosen)).any()


def test_seed_epoch_and_index_cannot_stand_in_for_each_other():
    augment = Augment(["brightness"])
    words = [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1), (0, 0, 0, 2), (0, 0, 0, 1)]
    draws = [
        augment.draw(tf.constant([index]), seed, epoch, view, (8, 8, 1))[0][0]
        for seed, epoch, index, view in words
    ]
    assert len(set(map(float, draws))) == len(words)


def test_a_view_does_not_depend_on_the_batch_it_is_made_in():
    images, chosen = images_of(10, 8, 8, 2), NAMES
    together = view_of(images, np.arange(10), chosen)
    order = np.random.default_rng(0).permutation(10)
    turned_round = view_of(images[order], order, chosen)
    alone = np.concatenate([view_of(images[i : i + 1], [i], chosen) for i in range(10)])
    # Not bit for bit: a vectorised cosine rounds by its place in the vector.
    np.testing.assert_allclose(turned_round, together[order], atol=1e-6)
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_random_numbers_do_not_depend_on_the_batch_at_all():
    together = draws_of(NAMES, 10)
    last = Augment(NAMES).draw(tf.constant([9]), 0, 0, 1, (8, 8, 1))
    for alone, values in zip(last, together, strict=True):
        np.testing.assert_array_equal(alone[0], values[9])


@pytest.mark.parametrize("order", [("gaussian_noise", "flip"), ("flip", "gaussian_noise")])
def test_augmentations_are_applied_in_the_order_of_the_list(order):
    images, augment, draws = images_of(12, 8, 8, 1), Augment(order), draws_of(order, 12)
    results = []
    for places in ((0, 1), (1, 0)):
        changed = images
        for place in places:
            changed = augment.augmentations[place].apply(changed, tf.constant(draws[place]))
        results.append(changed)
    view = augment.apply(tf.constant(images), [tf.constant(values) for values in draws])
    np.testing.assert_array_equal(view, results[0])
    assert (view != results[1]).numpy().any()


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 5), (6, 10, 2)])
def test_views_keep_shape_and_range_for_any_bands_and_sides(shape):
    names = [name for name in NAMES if name != "rot90" or shape[0] == shape[1]]
    images = images_of(30, *shape)
    for view in Augment(names).two_views(images, tf.range(30), 1, 1):
        assert view.shape == images.shape
        assert view.dtype == tf.float32
        assert 0 <= np.min(view) <= np.max(view) <= 1


def test_without_augmentations_a_view_is_the_image_itself():
    images = images_of(3, 8, 8, 1)
    np.testing.assert_array_equal(view_of(images, np.arange(3), []), images)


@dataclass(frozen=True)
class Halve:
    """An augmentation of a user's own: half the brightness, for half of the images."""

    dtype: ClassVar[str] = "bool"

    def draw(self, key, image_shape):
        return tf.random.stateless_uniform((), key) < 0.5

    def apply(self, images, draws):
        return tf.where(draws[:, None, None, None], images / 2, images)


def test_an_augmentation_of_ones_own_works_beside_the_packages():
    images = np.ones((40, 8, 8, 1), np.float32)
    halved = view_of(images, np.arange(40), ["flip", Halve()]).mean(axis=(1, 2, 3))
    assert set(halved) == {0.5, 1.0}


class Shrink(Halve):
    def apply(self, images, draws):
        return images[:, ::2, ::2]


def test_an_augmentation_that_changes_the_shape_is_refused():
    images = np.ones((2, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"apply must keep the shape .* from Shrink"):
        view_of(images, np.arange(2), [Shrink()])


def test_the_configured_augmentations_have_the_configured_settings():
    words = ["augment.views=[rotation, rot90, flip]", "augment.rotation.degrees=30"]
    words.append("augment.flip.vertical=false")
    augment = build_augment(load_config("defaults", words).augment)
    assert augment.augmentations == (Rotation(30.0), QuarterTurn(), Flip(vertical=False))


def test_the_defaults_of_the_library_are_those_of_the_configuration():
    words = [f"augment.views=[{', '.join(AUGMENTATIONS)}]"]
    configured = build_augment(load_config("defaults", words).augment)
    assert configured.augmentations == Augment(list(AUGMENTATIONS)).augmentations


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment(["rotate"]), r"must be names \(flip, rot90, .*Received: 'rotate'"),
        (lambda: Augment("flip"), "augmentations must be a list. Received: 'flip'"),
        (lambda: Augment([Rotation]), "must be names .*Received: <class"),
        (lambda: Augment([3]), "objects with draw, apply and dtype. Received: 3"),
        (lambda: Rotation(200), "degrees must be from 0 to 180. Received: degrees=200"),
        (lambda: Crop(0), "minimum_area must be above 0, up to 1. Received: minimum_area=0"),
        (lambda: Brightness(-1), r"maximum_change must be in \[0, 1\]. Received: "),
        (lambda: GaussianNoise(-0.1), "stddev must be at least 0. Received: stddev=-0.1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(make, message):
    with pytest.raises(ValueError, match=message):
        make()
