"""Augmentations against NumPy and SciPy, and the origin of their random numbers."""

from dataclasses import dataclass
from typing import Annotated

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
    Sometimes,
    register_augmentation,
    rotate,
    uniform,
    without_margin,
)
from deeplens_tf.config import load_config
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.dataclass_parsing import Bounds
from deeplens_tf.errors import RequestError

NAMES = (
    *("flip", "rot90", "rotation", "crop", "brightness", "gaussian_noise"),
    *("background_noise", "jitter"),
)


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


def keys_weight(distance):
    """Keys' kernel with a = -1/2, as he defines it piece by piece."""
    a, s = -0.5, abs(distance)
    if s < 1:
        return (a + 2) * s**3 - (a + 3) * s**2 + 1
    return a * s**3 - 5 * a * s**2 + 8 * a * s - 4 * a if s < 2 else 0.0


def mirrored(index, length):
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def naive_bicubic(image, angle_rad):
    """Sum over the pixels around each place, in float64, pixel by pixel."""
    height, width = image.shape[:2]
    result = np.zeros(image.shape)
    for i, j in np.ndindex(height, width):
        up, right = (height - 1) / 2 - i, j - (width - 1) / 2
        x = np.cos(angle_rad) * right + np.sin(angle_rad) * up + (width - 1) / 2
        y = (height - 1) / 2 + np.sin(angle_rad) * right - np.cos(angle_rad) * up
        for row in range(int(np.floor(y)) - 2, int(np.floor(y)) + 4):
            for column in range(int(np.floor(x)) - 2, int(np.floor(x)) + 4):
                weight = keys_weight(y - row) * keys_weight(x - column)
                result[i, j] += weight * image[mirrored(row, height), mirrored(column, width)]
    return result


@pytest.mark.parametrize("shape", [(12, 12, 1), (8, 13, 3), (3, 17, 1)])
@pytest.mark.parametrize("degrees", [0.0, 3.0, -20.0, 45.0, 90.0, 133.0, -179.0])
def test_a_bicubic_rotation_is_keys_cubic_convolution(shape, degrees):
    images, angle = images_of(2, *shape), np.float32(np.deg2rad(degrees))
    rotate_all = tf.function(lambda images, angles: rotate(images, angles, "bicubic"))
    rotated = rotate_all(tf.constant(images), tf.fill((2,), angle))
    expected = [naive_bicubic(image.astype(float), float(angle)) for image in images]
    np.testing.assert_allclose(rotated, expected, atol=2e-5)


def test_a_bicubic_rotation_keeps_a_parabola_inside():
    """Its error is of the third order in the size of a pixel, so a parabola is exact."""
    rows, columns = np.mgrid[:21, :21] - 10.0
    for angle in (0.3, -1.0, 2.5):
        # Counter-clockwise on a picture whose rows run downwards.
        right = np.cos(angle) * columns - np.sin(angle) * rows
        parabola = (columns**2 / 100)[None, ..., None].astype("f4")
        rotated = rotate(tf.constant(parabola), tf.constant([angle], tf.float32), "bicubic")
        inside = np.hypot(rows, columns) < 7
        np.testing.assert_allclose(
            rotated[0, ..., 0].numpy()[inside], right[inside] ** 2 / 100, atol=1e-5
        )


def test_bicubic_views_stay_in_range_and_bands_apart():
    images = (images_of(6, 16, 16, 2) > 0.5).astype("f4")
    turned = rotate(tf.constant(images), tf.fill((6,), 0.4), "bicubic").numpy()
    assert turned.min() < 0
    assert turned.max() > 1
    view = Rotation(90, "bicubic").apply(tf.constant(images), tf.fill((6,), 0.4))
    np.testing.assert_array_equal(view, turned.clip(0, 1))
    for band in range(2):
        alone = rotate(tf.constant(images[..., band, None]), tf.fill((6,), 0.4), "bicubic")
        np.testing.assert_allclose(turned[..., band], alone[..., 0], atol=1e-6)


def test_the_interpolation_is_configured():
    words = ["augment.views=[rotation]", "augment.rotation.interpolation=bicubic"]
    augment = build_augment(load_config("defaults", words).augment)
    assert augment.augmentations == (Rotation(180.0, "bicubic"),)
    with pytest.raises(RequestError, match=r"augment\.rotation\.interpolation .*bilinear"):
        load_config("defaults", ["augment.rotation.interpolation=nearest"])


@pytest.mark.parametrize("shape", [(1, 9, 9, 1), (2, 3, 8, 11, 2)])
@pytest.mark.parametrize("margin", [0, 1, 3])
def test_a_margin_is_cut_off_each_side(shape, margin):
    images = images_of(*shape)
    height, width = shape[-3:-1]
    expected = images[..., margin : height - margin, margin : width - margin, :]
    np.testing.assert_array_equal(without_margin(images, margin), expected)
    np.testing.assert_array_equal(without_margin(tf.constant(images), margin), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(16, 16, 1), (12, 17, 3)])
def test_a_margin_may_be_cut_by_the_rotation(shape, interpolation):
    images, angles = tf.constant(images_of(4, *shape)), tf.constant([0.3, -1.2, 2.5, 0.0])
    whole = rotate(images, angles, interpolation)
    cut = rotate(images, angles, interpolation, margin=3)
    np.testing.assert_allclose(cut, without_margin(whole, 3), atol=2e-5)


@pytest.mark.parametrize("names", [(), ("flip", "gaussian_noise"), ("flip", "rotation"), NAMES])
def test_views_are_cut_at_the_end(names):
    images, indices = tf.constant(images_of(5, 12, 12, 2)), tf.range(5)
    whole = Augment(names).two_views(images, indices, 3, 1)
    cut = Augment(names).two_views(images, indices, 3, 1, margin=2)
    for view, wide in zip(cut, whole, strict=True):
        np.testing.assert_allclose(view, without_margin(wide, 2), atol=2e-5)


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


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_rotated_view_does_not_depend_on_the_batch_in_any_bit(interpolation):
    count, augment = 37, Augment([Rotation(180, interpolation)])
    images = np.random.default_rng(0).random((count, 8, 8, 1), "float32")
    together = augment.view(images, np.arange(count), 0, 0)
    for i in range(count):
        alone = augment.view(images[i : i + 1], [i], 0, 0)
        np.testing.assert_array_equal(alone[0], together[i])


def test_a_subclass_of_rotation_need_not_know_of_margins():
    class Half(Rotation):
        def apply(self, images, draws):
            return super().apply(images, draws / 2)

    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    assert Augment([Half()]).view(images, np.arange(3), 0, 0).shape == (3, 8, 8, 1)


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

    def draw(self, keys, image_shape):
        return uniform(keys) < 0.5

    def apply(self, images, draws):
        return tf.where(draws[:, None, None, None], images / 2, images)


def test_an_augmentation_of_ones_own_works_beside_the_packages():
    images = np.ones((40, 8, 8, 1), np.float32)
    halved = view_of(images, np.arange(40), ["flip", Halve()]).mean(axis=(1, 2, 3))
    assert set(halved) == {0.5, 1.0}


def test_an_augmentation_with_a_probability_changes_that_share_and_nothing_else():
    images, rotation = images_of(400, 8, 8, 1), Rotation(90)
    always = view_of(images, np.arange(400), [rotation])
    sometimes = view_of(images, np.arange(400), [Sometimes(rotation, 0.3)])
    changed = (sometimes != images).any(axis=(1, 2, 3))
    assert stats.binomtest(int(changed.sum()), 400, 0.3).pvalue > 0.01
    np.testing.assert_array_equal(sometimes[changed], always[changed])
    for probability, expected in ((0, images), (1, always)):
        view = view_of(images, np.arange(400), [Sometimes(rotation, probability)])
        np.testing.assert_array_equal(view, expected)


def test_the_choice_is_independent_of_what_is_drawn():
    ((chosen, angles),) = Augment([Sometimes(Rotation(90), 0.5)]).draw(
        tf.range(1000), 0, 0, 1, (8, 8, 1)
    )
    assert stats.ks_2samp(angles[chosen], angles[~chosen]).pvalue > 0.01
    ((again, (inner, _)),) = Augment([Sometimes(Sometimes(Flip(), 0.5), 0.5)]).draw(
        tf.range(1000), 0, 0, 1, (8, 8, 1)
    )
    np.testing.assert_array_equal(chosen, again)
    assert stats.binomtest(int((again & inner).numpy().sum()), 1000, 0.25).pvalue > 0.01


def test_the_second_view_may_have_augmentations_of_its_own():
    images, indices = images_of(20, 8, 8, 1), tf.range(20)
    augment = Augment(["brightness"], view_2=["flip"])
    first, second = augment.two_views(tf.constant(images), indices, 0, 0)
    np.testing.assert_array_equal(first, Augment(["brightness"]).view(images, indices, 0, 0, 1))
    np.testing.assert_array_equal(second, Augment(["flip"]).view(images, indices, 0, 0, 2))
    _, plain = Augment(["brightness"], view_2=[]).two_views(tf.constant(images), indices, 0, 0)
    np.testing.assert_array_equal(plain, images)


def test_the_configuration_has_probabilities_and_a_list_for_each_view():
    words = ["augment.views=[flip, gaussian_noise]", "augment.view_2=[rotation]"]
    words += ["augment.probability.gaussian_noise=0.25", "augment.rotation.degrees=30"]
    augment = build_augment(load_config("defaults", words).augment)
    assert augment.of_view(1) == (Flip(), Sometimes(GaussianNoise(0.1), 0.25))
    assert augment.of_view(2) == (Rotation(30.0),)
    same = build_augment(load_config("defaults", words[:1]).augment)
    assert same.of_view(2) == same.of_view(1)


@pytest.mark.parametrize(
    "word",
    ["augment.probability.crop=0.5", "augment.options.zoom.maximum=2", "augment.options.crop={}"],
)
def test_a_setting_of_an_augmentation_that_no_view_has_is_refused(word):
    augment = load_config("defaults", ["augment.views=[flip]", word]).augment
    with pytest.raises(ValueError, match=r"augment\.\w+\.\w+: no view has '\w+', only flip"):
        build_augment(augment)


def test_a_setting_with_a_key_of_its_own_is_refused_among_the_options():
    words = ["augment.views=[rotation]", "augment.options.rotation.degrees=30"]
    with pytest.raises(ValueError, match=r"set augment\.rotation\.degrees instead"):
        build_augment(load_config("defaults", words).augment)


@dataclass(frozen=True)
class Dim:
    """A registered augmentation with a setting."""

    factor: Annotated[float, Bounds(low=0, high=1)] = 0.5

    def draw(self, keys, image_shape):
        return ()

    def apply(self, images, draws):
        return images * self.factor


def test_a_registered_augmentation_has_checked_settings(forgotten_names):
    register_augmentation("dim", Dim)
    words = ["augment.views=[dim]", "augment.options.dim.factor=0.25"]
    assert build_augment(load_config("defaults", words).augment).augmentations == (Dim(0.25),)
    assert Augment(["dim"]).augmentations == (Dim(),)
    words[1] = "augment.options.dim.factor=2"
    with pytest.raises(ValueError, match=r"augment.options.dim.factor must be .* at most 1, not 2"):
        build_augment(load_config("defaults", words).augment)


class PerImage(Halve):
    """Draws as augmentations of earlier versions did, the numbers of one image."""

    def draw(self, keys, image_shape):
        return uniform(keys)[0] < 0.5


class PerPixel(Halve):
    def draw(self, keys, image_shape):
        return uniform(keys[:1], (image_shape[0],))[0] < 0.5


@pytest.mark.parametrize("wrong", [PerImage(), Sometimes(PerPixel(), 0.5)])
def test_numbers_that_are_not_of_the_batch_are_refused(wrong):
    images = np.ones((3, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"first axis is the batch, .* not. Received: shape \("):
        view_of(images, np.arange(3), [wrong])
    batches = tf.data.Dataset.from_tensor_slices((images, np.arange(3))).batch(2)  # 2, and 1
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="axis is the batch"):
        list(batches.map(lambda some, rows: Augment([wrong]).view(some, rows, 0, 0)))


def test_an_augmentation_of_an_earlier_version_is_refused():
    old = Halve()
    object.__setattr__(old, "dtype", "bool")
    with pytest.raises(ValueError, match=r"must have no dtype.*draw gets the keys of a batch"):
        Augment([old])


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
        (lambda: Augment([3]), "objects with draw and apply. Received: 3"),
        (
            lambda: Rotation(30, "nearest"),
            "interpolation must be bilinear or bicubic. Received: interpolation=nearest",
        ),
        (
            lambda: rotate(tf.zeros((1, 4, 4, 1)), tf.zeros(1), "cubic"),
            "interpolation must be bilinear or bicubic. Received: interpolation=cubic",
        ),
        (lambda: Rotation(200), "degrees must be from 0 to 180. Received: degrees=200"),
        (
            lambda: Sometimes(Flip(), 1.5),
            r"probability must be in \[0, 1\]. Received: probability=1.5",
        ),
        (lambda: Augment({"flip", "crop"}), "augmentations must be a list. Received: {"),
        (lambda: Augment(Flip()), "augmentations must be a list. Received: Flip"),
        (lambda: Augment([], view_2="flip"), "view_2 must be a list. Received: 'flip'"),
        (lambda: Crop(0), "minimum_area must be above 0, up to 1. Received: minimum_area=0"),
        (lambda: Brightness(-1), r"maximum_change must be in \[0, 1\]. Received: "),
        (lambda: GaussianNoise(-0.1), "stddev must be at least 0. Received: stddev=-0.1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(make, message):
    with pytest.raises(ValueError, match=message):
        make()
