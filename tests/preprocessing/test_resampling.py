"""Resampling to another pixel scale, against a ring that is drawn at that scale."""

import numpy as np
import pytest

from deeplens_tf.errors import NoSignal, UnusableFile
from deeplens_tf.preprocessing.framing import Framing
from deeplens_tf.preprocessing.resampling import resample_with_margin
from deeplens_tf.preprocessing.scaling import crop_margin, scale_with_margin

SIZE, TARGET = 32, 0.1  # pixels, arcsec


def ring(pixels: int, scale: float) -> np.ndarray:
    """Draw an Einstein ring of 1.2 arcsec on a sky of 50, (pixels, pixels, 1)."""
    axis = (np.arange(pixels) - (pixels - 1) / 2) * scale
    radius = np.hypot(axis[:, None], axis)
    return 50 + 1000 * np.exp(-(((radius - 1.2) / 0.25) ** 2) / 2)[..., np.newaxis]


def radius_arcsec(image: np.ndarray) -> float:
    """Measure the ring in an image of pixels of TARGET arcsec, by its brightest pixels."""
    axis = (np.arange(len(image)) - (len(image) - 1) / 2) * TARGET
    weights = image[..., 0] ** 4
    return float((np.hypot(axis[:, None], axis) * weights).sum() / weights.sum())


@pytest.mark.parametrize(("pixels", "scale"), [(64, 0.05), (65, 0.05), (101, 0.04), (48, 0.08)])
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_the_ring_has_its_size_and_place_from_any_scale(pixels, scale, fit):
    wide = resample_with_margin(ring(pixels, scale), SIZE, fit, scale, TARGET)
    margin = crop_margin(SIZE, fit)
    assert wide.shape == (SIZE + 2 * margin,) * 2 + (1,)
    assert wide.dtype == np.float32
    image = wide[margin : margin + SIZE, margin : margin + SIZE]
    assert (image.min(), image.max()) == (0, 1)
    drawn = scale_with_margin(ring(SIZE, TARGET), SIZE, "resize")
    assert radius_arcsec(image) == pytest.approx(radius_arcsec(drawn), abs=0.02 * TARGET)
    np.testing.assert_allclose(image, drawn, atol=0.04)
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=1e-5)  # it stays in the centre


def test_the_same_scale_keeps_the_pixels():
    image = ring(40, TARGET)
    for fit in ("resize", "crop"):
        margin = crop_margin(SIZE, "crop") - crop_margin(SIZE, fit)
        cropped = scale_with_margin(image, SIZE, "crop")
        expected = cropped[margin : len(cropped) - margin, margin : len(cropped) - margin]
        np.testing.assert_array_equal(
            resample_with_margin(image, SIZE, fit, TARGET, TARGET), expected
        )


def test_the_margin_continues_the_image():
    wide = resample_with_margin(ring(128, 0.05), SIZE, "crop", 0.05, TARGET)
    larger = resample_with_margin(ring(128, 0.05), len(wide), "resize", 0.05, TARGET)
    np.testing.assert_allclose(wide, larger, atol=0.02)


def test_what_the_cut_removes_or_only_the_margin_has_does_not_matter():
    image = ring(100, 0.05)
    image[17, :], image[0, 0] = np.nan, 1e30  # beyond the 64 central pixels
    found = resample_with_margin(image, SIZE, "crop", 0.05, TARGET)
    clean = resample_with_margin(ring(100, 0.05), SIZE, "resize", 0.05, TARGET)
    margin = crop_margin(SIZE, "crop")
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[margin:-margin, margin:-margin], clean, atol=1e-6)
    expected = np.pad(clean, ((margin, margin), (margin, margin), (0, 0)), "symmetric")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_cannot_be_resampled_is_unusable():
    with pytest.raises(UnusableFile, match=r"covers 1\.6 of 3\.2 arcsec"):
        resample_with_margin(ring(32, 0.05), SIZE, "crop", 0.05, TARGET)
    with pytest.raises(UnusableFile, match=r"covers 3\.15 of 3\.2 arcsec"):
        Framing(SIZE, "resize", 0.05, TARGET).kept(ring(63, 0.05))
    hole = ring(64, 0.05)
    hole[30, 30] = np.nan
    with pytest.raises(UnusableFile, match="not finite"):
        resample_with_margin(hole, SIZE, "resize", 0.05, TARGET)
    with pytest.raises(NoSignal):
        resample_with_margin(np.ones((64, 64, 1)), SIZE, "resize", 0.05, TARGET)
