"""Raw pixels in a graph: those of `Preprocessing.apply`, which uses NumPy, Pillow and astropy."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from deeplens_tf.models.raw_pixels import RawPixels
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.value_scale import ValueScale

GREY = Preprocessing(16, "resize", 1, source_side=24)
COLOUR = Preprocessing(16, "resize", 3, source_side=24)


def grey_images():
    """Images on a bright sky, of which most cannot be used in some way."""
    images = np.random.default_rng(0).normal(1e4, 100, (9, 24, 24, 1)).astype(np.float32)
    images[1] = 5
    images[2, 9, 9] = np.nan
    images[3, 10, 10] = -1e9
    images[4, 9:11] = -1e9
    images[5] *= 1e33
    images[6] = (images[6] - 1e4) * 1e-32
    images[7, 5:19, 5:19] = np.nan
    images[8, 12, 12] = np.inf
    return images


def colour_images():
    images = np.random.default_rng(1).normal(size=(5, 24, 24, 3)) * [1, 100, 1e-3] + [0, 1e4, 0]
    images[1, ..., 0] = 3
    images[2, :6, :, 1] = np.nan
    images[3] *= 1e-20
    images[4, 8, 8, 2] = 1e6
    return images.astype(np.float32)


def require_same(how, images, tolerance=1e-5):
    """Compare a graph with `apply`, image by image; return how many images both use."""
    pixels, usable = map(np.asarray, RawPixels(how)(images))
    expected = []
    for image in images:
        try:
            expected.append(how.apply([image])[0])
        except ValueError:
            expected.append(None)
    assert usable.tolist() == [image is not None for image in expected]
    for found, image in zip(pixels[usable], [e for e in expected if e is not None], strict=True):
        np.testing.assert_allclose(found, image, rtol=0, atol=tolerance)
    return int(usable.sum())


@pytest.mark.parametrize(
    "scale",
    [
        ValueScale(),
        ValueScale("percentile", (1.0, 99.0)),
        ValueScale("percentile", (0.0, 90.5), "asinh", 1e-3),
        ValueScale("percentile", stretch="log"),
        ValueScale(stretch="sqrt"),
        ValueScale(stretch="asinh", asinh_softening=100.0),
        ValueScale(stretch="asinh"),
        ValueScale(max_nan_fraction=0.5),
        ValueScale(max_nan_fraction=0.01, nan_fill="minimum"),
        ValueScale("percentile", max_nan_fraction=0.5, nan_fill="zero"),
    ],
    ids=str,
)
@pytest.mark.parametrize("image_size", [16, 24, 37])
def test_every_scale_at_every_size_is_that_of_apply(scale, image_size):
    used = require_same(replace(GREY, image_size=image_size, scaling=scale), grey_images())
    assert 2 <= used < 9


@pytest.mark.parametrize("scale_bands", ["together", "each"])
@pytest.mark.parametrize(
    "scale",
    [
        ValueScale(),
        ValueScale("percentile", stretch="asinh"),
        ValueScale(max_nan_fraction=0.3),
    ],
    ids=str,
)
def test_bands_are_scaled_together_or_each(scale, scale_bands):
    how = replace(COLOUR, scaling=replace(scale, scale_bands=scale_bands))
    assert 1 <= require_same(how, colour_images()) < 5


def test_bands_are_left_out_and_a_grey_band_is_repeated():
    two = replace(COLOUR, bands=2, bands_left_out=(0,))
    assert require_same(two, colour_images())
    assert RawPixels(two).input_shape == (24, 24, 3)
    assert require_same(replace(GREY, repeat=3), grey_images())


@pytest.mark.parametrize("shape", [(16, 16), (24, 24), (17, 31)])
def test_the_central_pixels_of_images_of_any_size_are_cut(shape):
    how = replace(GREY, fit="crop", source_side=16)
    images = np.random.default_rng(2).random((3, *shape, 1), np.float32)
    images[0, 0, 0] = 1e9 if shape == (24, 24) else 0.5  # outside of what is kept
    assert require_same(how, images) == 3
    assert RawPixels(how).input_shape == (None, None, 1)


@pytest.mark.parametrize("count", [1, 4])
def test_a_smaller_image_takes_no_pixels_of_the_next_one(count):
    images = np.random.default_rng(2).random((count, 8, 8, 1), np.float32)
    with pytest.raises(Exception, match=r"[Ii]nput to reshape|cannot reshape|values"):
        RawPixels(replace(GREY, fit="crop", source_side=16))(images)


@dataclass(frozen=True)
class LaterScale(ValueScale):
    """A scale with a setting that the graph does not know."""

    later: str = "none"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (replace(GREY, scaling=ValueScale("zscale")), "zscale"),
        (
            replace(GREY, pixel_scale_arcsec=0.1, source_scale_arcsec=0.2, resampled=True),
            "resampled",
        ),
        (replace(GREY, scaling=LaterScale(later="some")), "later of its scale"),
        (replace(GREY, source_side=None), "size of the images before they are resized is unknown"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_by_name(how, reason):
    with pytest.raises(ValueError, match=reason):
        RawPixels(how)
