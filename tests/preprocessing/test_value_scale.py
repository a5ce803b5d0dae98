"""Intervals and stretches against astropy by naive code; min-max scaling as it always was."""

import hashlib
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from astropy.visualization import (
    AsinhStretch,
    AsymmetricPercentileInterval,
    LinearStretch,
    LogStretch,
    MinMaxInterval,
    SqrtStretch,
    ZScaleInterval,
)
from PIL import Image

from deeplens_tf.errors import NoSignal, UnusableFile
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.scaling import crop_margin, resize_and_scale, scale_with_margin
from deeplens_tf.preprocessing.value_scale import (
    INTERVALS,
    SCALE_BANDS,
    STRETCHES,
    ZSCALE_VALUES,
    ValueScale,
)

SCALES = [
    ValueScale(interval, stretch=stretch, scale_bands=bands)
    for interval, stretch, bands in product(INTERVALS, STRETCHES, SCALE_BANDS)
]
DIGEST = "5bb8edcf20f414c5e9e27fbd5b1ea68f4526aed5a2b586be08f3001898d9edce"  # of an earlier version
STAR_AND_RING = ValueScale("percentile", stretch="asinh")


def sky(bands=3, side=40, seed=0):
    """Return an image whose bands differ in level, noise and signal."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - side / 2
    blob = np.exp(-(rows**2 + columns**2) / side)[..., None]
    levels = np.array([100.0, 3.0, -20.0])[:bands]
    return levels * (1 + blob) + generator.normal(size=(side, side, bands)) * abs(levels) / 20


def interval_of(scale, values):
    if scale.interval == "minmax":
        return MinMaxInterval()
    if scale.interval == "percentile":
        return AsymmetricPercentileInterval(0.5, 99.5)
    return ZScaleInterval(n_samples=values.size)  # of all pixels


def stretch_of(scale):
    kinds = {"linear": LinearStretch, "log": LogStretch, "sqrt": SqrtStretch}
    return AsinhStretch(0.1) if scale.stretch == "asinh" else kinds[scale.stretch]()


def naive(image, size, scale, margin=0):
    """Scale the bands one by one by astropy, in float64; each with the interval that is its own."""
    top = (len(image) - size) // 2
    kept = image[top : top + size, top : top + size]
    first = top - margin
    wide = image[first : first + size + 2 * margin, first : first + size + 2 * margin]
    result = np.empty(wide.shape)
    for band in range(image.shape[-1]):
        values = kept if scale.scale_bands == "together" else kept[..., band]
        if values.ndim == 3:  # band after band
            values = np.concatenate([values[..., i].ravel() for i in range(image.shape[-1])])
        low, high = interval_of(scale, values).get_limits(values.ravel())
        unit = np.clip((wide[..., band] - low) / (high - low), 0, 1)
        result[..., band] = stretch_of(scale)(unit)
    return result


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_scale_is_astropys_applied_by_naive_code(scale):
    image, size = sky(), 24
    margin = crop_margin(size, "crop")
    np.testing.assert_allclose(
        resize_and_scale(image, size, "crop", scale), naive(image, size, scale), atol=1e-6
    )
    found = scale_with_margin(image, size, "crop", scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive(image, size, scale, margin), atol=1e-6)
    assert 0 <= found.min() < found.max() <= 1


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_values_are_clipped_resized_and_then_stretched(scale):
    image = sky()
    linear = ValueScale(scale.interval, scale_bands=scale.scale_bands)
    unit = naive(image, 40, linear).astype("f4")
    small = [Image.fromarray(unit[..., i]).resize((16, 16), Image.BILINEAR) for i in range(3)]
    small = np.stack([np.asarray(band) for band in small], axis=-1).astype(float)
    if scale.interval == "minmax":  # whose extremes are 0 and 1 after resizing too
        axes = (0, 1) if scale.scale_bands == "each" else None
        low, high = small.min(axes), small.max(axes)
        small = (small - low) / (high - low)
    expected = stretch_of(scale)(small)
    np.testing.assert_allclose(resize_and_scale(image, 16, "resize", scale), expected, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_resampling_has_the_same_scale(scale):
    image = sky()
    halved = Framing(20, "resize", 0.1, 0.2, scale).scaled(image)
    np.testing.assert_allclose(halved, resize_and_scale(image, 20, "resize", scale), atol=1e-6)
    equal = Framing(40, "resize", 0.1, 0.1, scale).scaled(image)
    np.testing.assert_array_equal(equal, resize_and_scale(image, 40, "resize", scale))
    if scale.interval != "minmax":  # whose extremes after resizing are at the border here
        inner = crop_margin(16, "crop") + 1  # the filter sees the margin in the outermost pixel
        wide = Framing(16, "crop", 0.1, 0.2, scale).scaled(image)[inner:-inner, inner:-inner]
        without = Framing(16, "resize", 0.1, 0.2, scale).scaled(image)[1:-1, 1:-1]
        np.testing.assert_array_equal(wide, without)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_the_centre_is_the_image_without_a_margin_to_the_bit(scale):
    margin = crop_margin(23, "crop")
    found = scale_with_margin(sky(), 23, "crop", scale)[margin:-margin, margin:-margin]
    np.testing.assert_array_equal(found, resize_and_scale(sky(), 23, "crop", scale))


def test_min_max_scaling_is_as_in_earlier_versions_to_the_bit():
    image = sky()
    kept = image[8:32, 8:32]
    expected = ((kept - kept.min()) / (kept.max() - kept.min())).astype(np.float32)
    found = resize_and_scale(image, 24, "crop")
    assert found.tobytes() == expected.tobytes()
    # Of whole numbers, so that no library's random numbers or functions are in it.
    whole = (np.arange(40 * 40 * 2).reshape(40, 40, 2) * 7919) % 1013
    digest = hashlib.sha256(scale_with_margin(whole, 24, "crop").tobytes()).hexdigest()
    assert digest == DIGEST


def test_min_max_scaling_does_without_astropy():
    program = (
        "import sys, numpy as np\n"
        "from deeplens_tf.preprocessing.framing import Framing\n"
        "Framing(16, 'resize').scaled(np.arange(800.0).reshape(20, 20, 2))\n"
        "print('astropy' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def ring_with_star(star=0.0):
    """A ring on a noisy sky; the star has 2 x 2 pixels and is `star` times as bright."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(rows, columns)
    image = np.exp(-(((radius - 14) / 3) ** 2) / 2)
    image += np.random.default_rng(0).normal(size=image.shape) * 0.05
    image[5:7, 50:52] += star
    return image[..., None], abs(radius - 14) < 3, radius > 26


def contrast(image, on_ring, on_sky):
    return float(np.median(image[on_ring, 0]) - np.median(image[on_sky, 0]))


@pytest.mark.parametrize("star", [10.0, 100.0, 1e6])
@pytest.mark.parametrize("scale", [STAR_AND_RING, ValueScale("zscale")], ids=str)
def test_a_star_takes_no_contrast_from_a_ring(scale, star):
    plain, on_ring, on_sky = ring_with_star()
    starred, _, _ = ring_with_star(star)
    without = contrast(resize_and_scale(plain, 64, "resize"), on_ring, on_sky)
    assert without > 0.5
    kept = contrast(resize_and_scale(starred, 64, "resize", scale), on_ring, on_sky)
    assert kept >= 0.9 * without
    if star < 1e4:  # else min-max refuses the image
        lost = contrast(resize_and_scale(starred, 64, "resize"), on_ring, on_sky)
        assert lost < 1.5 / star
    else:
        with pytest.raises(UnusableFile, match="far from the others"):
            resize_and_scale(starred, 64, "resize")


@pytest.mark.parametrize("scale", [STAR_AND_RING, ValueScale("zscale")], ids=str)
def test_what_leaves_nothing_to_see_is_refused(scale):
    image, _, _ = ring_with_star()
    image[3, 4] = np.inf
    with pytest.raises(UnusableFile, match="1 value is not finite"):
        resize_and_scale(image, 64, "resize", scale)
    with pytest.raises(NoSignal, match="constant, every value is 2"):
        resize_and_scale(np.full((20, 20, 1), 2.0), 20, "resize", scale)
    almost = np.zeros((64, 64, 1))
    almost[30, 30] = 1
    with pytest.raises(NoSignal, match=rf"constant within its {scale.interval} interval, 0 to 0"):
        resize_and_scale(almost, 64, "resize", scale)


def test_a_border_of_fill_values_that_decides_the_interval_is_refused():
    image, _, _ = ring_with_star()
    image[:2] = -99999.0  # 3 % of the pixels
    with pytest.raises(UnusableFile, match="128 of 4096 values are far from the others"):
        resize_and_scale(image, 64, "resize", ValueScale("percentile"))


@pytest.mark.parametrize("value", [1e308, -1e308])
@pytest.mark.parametrize("interval", INTERVALS)
def test_values_of_any_size_are_scaled_or_refused(interval, value):
    image = sky(1) / 200 * value
    try:
        found = resize_and_scale(image, 40, "resize", ValueScale(interval))
    except UnusableFile as error:
        assert "values are too large" in str(error)
    else:
        assert 0 <= found.min() < found.max() <= 1


def test_zscale_has_a_sample_of_every_band_of_a_large_image():
    image = np.tile(sky(1, 200), 3)
    image[..., 2] *= 100
    assert image.size > ZSCALE_VALUES
    values = np.moveaxis(image, -1, 0).ravel()[:: -(-image.size // ZSCALE_VALUES)]
    expected = ZScaleInterval(n_samples=values.size).get_limits(values)
    assert ValueScale("zscale").ends(image) == expected
    together = resize_and_scale(image, 200, "crop", ValueScale("zscale"))
    assert np.ptp(together[..., 2]) > 0.5


def test_a_margin_that_is_not_finite_in_one_band_is_reflected_in_all():
    image = sky()
    image[2, 20, 1] = np.nan  # in the margin of the central 24 pixels
    scale = ValueScale("percentile", scale_bands="each")
    with_gap = scale_with_margin(image, 24, "crop", scale)
    margin = crop_margin(24, "crop")
    image[8 - margin + 4, 20, 1] = np.nan
    found = scale_with_margin(image, 24, "crop", scale)
    central = found[margin:-margin, margin:-margin]
    padding = ((margin, margin), (margin, margin), (0, 0))
    np.testing.assert_array_equal(found, np.pad(central, padding, "symmetric"))
    assert (with_gap != found).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interval": "robust"}, "interval must be minmax or percentile or zscale"),
        ({"stretch": "power"}, "stretch must be linear or asinh or log or sqrt"),
        ({"scale_bands": "all"}, "scale_bands must be together or each"),
        ({"percentiles": (1, 99)}, "percentiles must be None without interval percentile"),
        ({"interval": "percentile", "percentiles": (99, 1)}, "two rising numbers from 0 to 100"),
        ({"interval": "percentile", "percentiles": (0, 101)}, "two rising numbers from 0 to 100"),
        ({"interval": "percentile", "percentiles": 99}, "two rising numbers from 0 to 100"),
        ({"max_nan_fraction": 0.6}, r"max_nan_fraction must be a number from 0 to 0\.5"),
        ({"max_nan_fraction": np.nan}, "max_nan_fraction must be a number"),
        ({"nan_fill": "zero"}, "nan_fill must be None without max_nan_fraction"),
        ({"max_nan_fraction": 0.1, "nan_fill": "mean"}, "nan_fill must be median or minimum or ze"),
        ({"asinh_softening": 0.1}, "asinh_softening must be None without stretch asinh"),
        ({"stretch": "asinh", "asinh_softening": 0.0}, "a number from 1e-6 to 1000"),
        ({"stretch": "asinh", "asinh_softening": True}, "a number from 1e-6 to 1000"),
    ],
)
def test_a_scale_that_is_none_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ValueScale(**values)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_preprocessing_keeps_its_scale_in_a_file(scale):
    how = Preprocessing(16, "resize", 3, scaling=scale)
    stored = how.to_dict()
    assert Preprocessing.from_dict(stored) == how
    if scale == ValueScale():  # earlier versions read it
        assert (stored["version"], stored["scaling"]) == (1, "min-max")
        assert Preprocessing.from_dict(stored | {"version": 2, "scaling": scale.to_dict()}) == how
    else:
        assert stored["version"] == 2
        with pytest.raises(ValueError, match="no valid scaling"):
            Preprocessing.from_dict(stored | {"version": 1})


@pytest.mark.parametrize(
    "damage", ["min-max", None, {}, {"interval": "zscale"}, {"interval": "percentile", "more": 1}]
)
def test_another_scale_in_a_file_is_refused(damage):
    stored = Preprocessing(16, "resize", 3, scaling=STAR_AND_RING).to_dict()
    with pytest.raises(ValueError, match="scale must have the keys of a ValueScale"):
        Preprocessing.from_dict(stored | {"scaling": damage})


def test_a_differing_scale_is_named():
    plain = Preprocessing(16, "resize", 1)
    assert plain.differences(Preprocessing(16, "resize", 1, scaling=STAR_AND_RING)) == [
        "scaling percentile 0.5 to 99.5, asinh 0.1 instead of min-max"
    ]
    each = Preprocessing(16, "resize", 1, scaling=ValueScale("zscale", scale_bands="each"))
    assert each.differences(plain) == ["scaling min-max instead of zscale, each band by itself"]
