"""Values that min-max scaling cannot use, and fill values that would flatten an image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_tf.errors import NoSignal, UnusableFile
from deeplens_tf.preprocessing.pixel_checks import check_pixels
from deeplens_tf.preprocessing.scaling import crop_margin, resize_and_scale, scale_with_margin
from tests.data.image_folders import random_image

FILLS = [-9.223372e18, 3.4e38, -3.4e38, -9999.0, 65000.0, 1e30, -1e300, 1.7e308]


def reason(image, **options):
    with pytest.raises(UnusableFile) as caught:
        check_pixels(image, **options)
    return str(caught.value)


def ring(side=32, bands=1):
    """A faint ring with noise, values within about 0.1."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    light = np.exp(-(((np.hypot(x, y) - 0.5) / 0.1) ** 2))
    noise = np.random.default_rng(0).normal(size=(side, side, bands))
    return 0.05 * light[..., None] + 0.001 * noise


def naive_outliers(image):
    """Return whether some window of all but a handful of the sorted values is far too narrow."""
    values = np.sort(image.astype(np.longdouble), axis=None)
    keep = values.size - max(8, values.size // 100)
    windows = [values[i + keep - 1] - values[i] for i in range(values.size - keep + 1)]
    return bool(min(windows) < 1e-4 * (values[-1] - values[0]))


def naive_repeated(image):
    """Return whether values other than an extreme that many pixels have span far too little."""
    values = image.ravel().tolist()
    low, high = min(values), max(values)
    body = [value for value in values if value not in (low, high)]
    repeated = max(values.count(low), values.count(high)) > 8
    return repeated and 0 < max(body) - min(body) < 1e-4 * (high - low)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([(0, 0, np.nan), (3, 4, np.nan)], "2 values are not finite"),
        ([(5, 5, np.inf)], "1 value is not finite"),
        ([(1, 1, -np.inf), (2, 2, np.nan)], "2 values are not finite"),
    ],
    ids=["nan", "inf", "minus inf and nan"],
)
def test_values_that_are_not_finite_are_counted(changes, expected):
    image = random_image(0, (16, 16, 1))
    for row, column, value in changes:
        image[row, column] = value
    assert reason(image) == expected


def test_a_constant_image_has_no_signal():
    with pytest.raises(NoSignal, match=r"^constant, every value is 2\.5$"):
        check_pixels(np.full((16, 16, 2), 2.5))
    assert reason(np.zeros((16, 16, 1), int), cropped=True) == (
        "constant after cropping, every value is 0"
    )


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("shape", [(32, 1), (16, 1), (48, 3)])
def test_a_few_fill_values_are_refused_with_their_number(fill, count, shape):
    image = ring(*shape)
    image.flat[100 : 100 + count] = fill
    text = f"{count} of {image.size} values {'is' if count == 1 else 'are'} far from the others"
    assert text in reason(image)
    with pytest.raises(UnusableFile, match="a fill value or a saturated pixel"):
        resize_and_scale(image, 16, "resize")


def test_fill_values_on_both_sides_and_of_both_signs_are_refused():
    image = ring()
    image[0, :4], image[1, :3] = -9999, 65535
    assert "7 of 1024 values are far from the others, which span 7e-07 of" in reason(image)


@pytest.mark.parametrize("fill", [-9999.0, 1e30, -1.7e308])
@pytest.mark.parametrize(
    "part",
    [np.s_[5], np.s_[:, 7:9], np.s_[:12, :12], np.s_[20:]],
    ids=["row", "columns", "corner", "a third"],
)
def test_fill_values_in_a_part_of_the_image_are_refused_with_their_number(part, fill):
    image = ring()
    image[part] = fill
    text = f"{np.count_nonzero(image == fill)} of 1024 values are far from the others"
    assert text in reason(image)


def test_images_of_few_different_values_are_accepted():
    mask = (ring() > 0.02).astype("f4")
    check_pixels(mask)
    check_pixels(1e6 * mask + (ring() > 0.04))
    check_pixels(ring().clip(0.001, 0.02))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u8"])
def test_every_type_is_checked(dtype):
    image = np.random.default_rng(1).integers(0, 3, (16, 16, 1)).astype(dtype)
    check_pixels(image)
    image[4, 4] = 60000
    assert "1 of 256 values is far" in reason(image)


def test_a_star_that_leaves_a_ring_to_see_is_accepted():
    image = ring()
    image[5, 5] = 100 * np.ptp(image)
    check_pixels(image)


def test_a_faint_band_beside_a_bright_one_is_no_outlier():
    image = np.concatenate([ring(), 1e9 * ring()], axis=-1)
    check_pixels(image)


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 24),
    side=st.integers(8, 40),
    exponent=st.floats(0, 9),
    both=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_the_rule_is_that_of_every_window_of_the_sorted_values(seed, count, side, exponent, both):
    draw = np.random.default_rng(seed)
    image = draw.random((side, side, 1))
    places = draw.choice(image.size, count, replace=False)
    image.flat[places] = 10**exponent * (draw.choice([-1, 1], count) if both else 1)
    if naive_outliers(image) or naive_repeated(image):
        assert "far from the others" in reason(image)
    else:
        check_pixels(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_only_the_kept_pixels_need_to_be_finite(value, fit):
    image = random_image(2, (40, 60, 1))
    expected = resize_and_scale(image, 16, fit)
    image[:, :9] = value  # within the margin of neither the crop nor the central square
    np.testing.assert_array_equal(resize_and_scale(image, 16, fit), expected)
    image[20, 30] = value
    with pytest.raises(UnusableFile, match="is not finite"):
        resize_and_scale(image, 16, fit)


def test_a_margin_that_is_not_finite_is_the_reflection_of_the_crop():
    image, margin = random_image(3, (40, 40, 2)), crop_margin(16, "crop")
    central = resize_and_scale(image, 16, "crop")
    far = image.copy()
    far[0] = np.nan  # beyond the margin: changes nothing
    np.testing.assert_array_equal(
        scale_with_margin(far, 16, "crop"), scale_with_margin(image, 16, "crop")
    )
    image[12 - margin, 20, 1] = np.nan
    result = scale_with_margin(image, 16, "crop")
    wide = np.concatenate([central[margin - 1 :: -1], central, central[: -margin - 1 : -1]])
    wide = np.concatenate([wide[:, margin - 1 :: -1], wide, wide[:, : -margin - 1 : -1]], axis=1)
    np.testing.assert_array_equal(result, wide)


def test_a_fill_value_outside_of_the_kept_pixels_changes_nothing():
    image = random_image(4, (40, 40, 1))
    expected = resize_and_scale(image, 16, "crop")
    image[:5] = -9999
    np.testing.assert_array_equal(resize_and_scale(image, 16, "crop"), expected)
