"""Noise as strong as an image's own, and shifts of the centre, against naive loops."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import deeplens_tf as dl
from deeplens_tf.augment import Augment, BackgroundNoise, Jitter
from deeplens_tf.augment.background import MAX_DIFFERENCES, background_deviation
from deeplens_tf.config import load_config
from deeplens_tf.data.view_making import build_augment, view_margin
from deeplens_tf.errors import RequestError

SIDE = 16


def naive_deviation(image):
    """Median of the absolute mixed differences of one band, every k-th of them, in float64."""
    found = []
    for i in range(image.shape[0] - 1):
        for j in range(image.shape[1] - 1):
            found.append(abs(image[i + 1, j + 1] - image[i + 1, j] - image[i, j + 1] + image[i, j]))
    step = 1
    while len(found) > step * MAX_DIFFERENCES:
        step += 1
    return np.median(found[::step]) / stats.norm.ppf(0.75) / 2


@pytest.mark.parametrize("shape", [(9, 9, 1), (12, 17, 3), (40, 41, 2), (2, 2, 1)])
def test_the_deviation_is_that_of_naive_loops(shape):
    images = np.random.default_rng(0).random((3, *shape)).astype("f4")
    found = background_deviation(tf.constant(images)).numpy()
    assert found.shape == (3, shape[-1])
    for image, deviations in zip(images.astype(float), found, strict=True):
        for band, deviation in enumerate(deviations):
            assert deviation == pytest.approx(naive_deviation(image[..., band]), rel=1e-5)


@pytest.mark.parametrize("level", [0.002, 0.03])
def test_the_noise_of_the_sky_is_found_beside_a_bright_galaxy(level):
    rows, columns = np.mgrid[:64, :64] - 31.5
    galaxy = 0.8 * np.exp(-np.hypot(rows, columns) / 6)
    noise = level * np.random.default_rng(1).normal(size=(20, 64, 64))
    noise[:, 3:5, 3:5] += 0.5  # a star
    found = background_deviation(tf.constant((galaxy + noise)[..., None], tf.float32)).numpy()
    assert np.median(found) == pytest.approx(level, rel=0.08)
    assert (abs(found / level - 1) < 0.2).all()


def test_the_noise_of_a_view_is_the_images_own_times_the_factor():
    levels = np.array([0.01, 0.02, 0.04, 0.0])
    noise = np.random.default_rng(2).normal(size=(4, 48, 48, 2))
    images = (0.5 + levels[:, None, None, None] * noise * [1, 0.5]).astype("f4")
    augment = Augment([BackgroundNoise(0.5)])
    draws = augment.draw(tf.range(4), 0, 0, 1, images.shape[1:])
    view = augment.apply(tf.constant(images), draws).numpy()
    for image, changed, drawn in zip(images, view, draws[0].numpy(), strict=True):
        for band in range(2):
            deviation = naive_deviation(image[..., band].astype(float))
            expected = image[..., band] + deviation * drawn[..., band]
            np.testing.assert_allclose(changed[..., band], expected.clip(0, 1), atol=1e-6)
    assert stats.kstest(draws[0].numpy().ravel() / 0.5, "norm").pvalue > 0.01
    np.testing.assert_array_equal(view[3], images[3])  # without noise, none is added


def naive_shift(image, down, right):
    height, width = image.shape[:2]
    result = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            row, column = i - down, j - right
            while not 0 <= row < height:
                row = -1 - row if row < 0 else 2 * height - 1 - row
            while not 0 <= column < width:
                column = -1 - column if column < 0 else 2 * width - 1 - column
            result[i, j] = image[row, column]
    return result


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 12, 3)])
def test_a_shift_is_that_of_naive_loops(shape):
    shifts = np.array([(0, 0), (1, 0), (0, -3), (2, 5), (-7, 7), (9, -20)], np.int32)
    images = np.random.default_rng(0).random((len(shifts), *shape)).astype("f4")
    found = Jitter(20).apply(tf.constant(images), tf.constant(shifts)).numpy()
    for image, view, (down, right) in zip(images, found, shifts, strict=True):
        np.testing.assert_array_equal(view, naive_shift(image, down, right))


def test_all_shifts_are_equally_likely():
    (shifts,) = Augment([Jitter(2)]).draw(tf.range(5000), 0, 0, 1, (8, 8, 1))
    counts = np.unique(shifts.numpy() @ [5, 1], return_counts=True)[1]
    assert len(counts) == 25
    assert stats.chisquare(counts).pvalue > 0.01


def test_a_shift_shows_the_margin_around_a_crop():
    raw = np.random.default_rng(0).random((6, 40, 40))
    data = dl.data.from_arrays(raw, image_size=SIDE, fit="crop", validation_fraction=0)
    augment = Augment([Jitter(3)])
    assert view_margin(data, augment) == data.margin > 3
    assert view_margin(data, Augment([BackgroundNoise()])) == 0
    wide = data.images_with_margin
    margin = data.margin
    view = augment.view(tf.constant(wide), tf.range(6), 0, 0, 1, margin).numpy()
    (shifts,) = augment.draw(tf.range(6), 0, 0, 1, wide.shape[1:])
    assert np.abs(shifts).max() > 0
    for image, shown, (down, right) in zip(wide, view, shifts.numpy(), strict=True):
        rows = slice(margin - down, margin - down + SIDE)
        columns = slice(margin - right, margin - right + SIDE)
        np.testing.assert_array_equal(shown, image[rows, columns])


def test_both_are_configured():
    words = ["augment.views=[jitter, background_noise]", "augment.jitter.pixels=5"]
    config = load_config("defaults", [*words, "augment.background_noise.factor=0.5"])
    assert build_augment(config.augment).augmentations == (Jitter(5), BackgroundNoise(0.5))
    with pytest.raises(RequestError, match=r"augment\.jitter\.pixels must be a whole number"):
        load_config("defaults", ["augment.jitter.pixels=0.5"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jitter(-1), "pixels must be a whole number from 0 to 1024"),
        (lambda: Jitter(0.5), "pixels must be a whole number"),
        (lambda: BackgroundNoise(-0.1), "factor must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
