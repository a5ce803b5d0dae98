"""The margin around a crop, pixel by pixel from the source image."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.preprocessing.scaling import crop_margin, resize_and_scale, scale_with_margin
from tests.data.image_folders import random_image


def mirrored(index, length):
    """Walk from an index beyond an end back into the axis; the end pixel comes twice."""
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def naive_margin(image, size, margin):
    """Read each pixel of crop and margin from the source, on the scale of the crop, in float64."""
    height, width, bands = image.shape
    top, left = (height - size) // 2, (width - size) // 2
    crop = image[top : top + size, left : left + size].astype(float)
    low, high = crop.min(), crop.max()
    result = np.empty((size + 2 * margin, size + 2 * margin, bands))
    for i in range(size + 2 * margin):
        for j in range(size + 2 * margin):
            row, column = mirrored(top - margin + i, height), mirrored(left - margin + j, width)
            result[i, j] = (image[row, column] - low) / (high - low)
    return result.clip(0, 1)


@pytest.mark.parametrize(("size", "margin"), [(32, 7), (64, 14), (128, 27), (8, 2), (33, 7)])
def test_a_turned_square_stays_within_its_margin(size, margin):
    assert crop_margin(size, "crop") == margin
    half_diagonal = math.hypot(size, size) / 2
    assert size / 2 + margin - 1 < half_diagonal <= size / 2 + margin
    assert crop_margin(size, "resize") == 0


@pytest.mark.parametrize("shape", [(64, 64, 1), (40, 71, 2), (33, 35, 3), (17, 90, 1), (16, 16, 1)])
@pytest.mark.parametrize("size", [16, 15])
def test_the_margin_is_the_source_around_the_crop_and_reflected_beyond(shape, size):
    image = 50 * random_image(0, shape) - 20
    margin = crop_margin(size, "crop")
    expected = naive_margin(image, size, margin)
    result = scale_with_margin(image, size, "crop")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    size=st.integers(8, 40),
    bands=st.integers(1, 3),
    fit=st.sampled_from(["resize", "crop"]),
    scale=st.sampled_from([1e-310, 1.0, 1e308]),
)
@settings(max_examples=100, deadline=None)
def test_the_centre_is_the_image_without_a_margin_to_the_bit(
    height, width, size, bands, fit, scale
):
    image = (random_image(8, (height, width, bands)) - 0.5) * scale
    margin = crop_margin(size, fit)
    result = scale_with_margin(image, size, fit)
    assert result.shape == (size + 2 * margin, size + 2 * margin, bands)
    assert 0 <= result.min() <= result.max() <= 1
    centre = result[margin : margin + size, margin : margin + size]
    np.testing.assert_array_equal(centre, resize_and_scale(image, size, fit))


def test_a_small_image_is_resized_up_with_its_reflection_around_it():
    image, margin = random_image(1, (10, 23, 2)), crop_margin(16, "crop")
    expected = resize_and_scale(image, 16, "crop")
    result = scale_with_margin(image, 16, "crop")
    rows = [mirrored(i - margin, 16) for i in range(16 + 2 * margin)]
    np.testing.assert_array_equal(result, expected[rows][:, rows])


@pytest.mark.parametrize("value", [1e6, -1e6, 1e308, -1e308])
def test_a_bright_star_outside_of_the_crop_changes_nothing_in_it(value):
    image = random_image(2, (40, 40, 1))
    expected = scale_with_margin(image, 16, "crop")
    image[11, 20] = value  # one row above the crop
    result = scale_with_margin(image, 16, "crop")
    assert result[crop_margin(16, "crop") - 1, 12] == (value > 0)
    assert (result != expected).sum() == 1


def test_whole_numbers_are_scaled_like_real_ones():
    image = np.random.default_rng(3).integers(0, 255, (40, 40, 1), np.uint8)
    np.testing.assert_array_equal(
        scale_with_margin(image, 16, "crop"), scale_with_margin(image.astype(float), 16, "crop")
    )


def test_what_cannot_be_scaled_is_refused_as_without_a_margin():
    image = np.zeros((40, 40, 1))
    image[11, 20] = 1
    with pytest.raises(UnusableFile, match="constant after cropping"):
        scale_with_margin(image, 16, "crop")
    with pytest.raises(RequestError, match="Received: fit='pad'"):
        scale_with_margin(image, 16, "pad")
