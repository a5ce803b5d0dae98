"""Statistics of scaled images: against NumPy one by one, and on lenses with usual defects."""

import os
from pathlib import Path

import numpy as np
import pytest

from deeplens_tf.preprocessing.scaling import resize_and_scale
from deeplens_tf.preprocessing.statistics import TrainingRange, image_statistics
from deeplens_tf.simulation import draw_lens, render_image

SAMPLE = Path(os.environ.get("DEEPLENS_SAMPLE", "../shared/deeplense_sample")) / "Model_II"


def scaled(images) -> np.ndarray:
    """Scale to [0, 1] without any check, as a defective image would be."""
    images = np.asarray(images, np.float64)
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    return ((images - low) / (high - low)).astype(np.float32)[..., np.newaxis]


def with_border(image: np.ndarray) -> np.ndarray:
    return np.pad(image[5:-5, 5:-5], 5, constant_values=-99)


def with_hot_pixel(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[20, 30] = 65_000
    return image


def noise_instead(image: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).normal(size=image.shape)


DEFECTS = [with_border, with_hot_pixel, np.negative, noise_instead]


@pytest.fixture(scope="module", params=["model_i", "model_ii"])
def lenses(request):
    draws = (np.random.default_rng([7, i]) for i in range(45))
    return [render_image(draw_lens(request.param, "no_sub", draw)) for draw in draws]


def test_statistics_are_numpys_of_each_image():
    images = np.random.default_rng(0).random((5, 7, 7, 3)).astype(np.float32)
    images[0, 0, 0, 0], images[1, :3] = 0.995, 0
    found = image_statistics(images)
    for image, statistics in zip(images, found, strict=True):
        first, third = np.quantile(image, [0.25, 0.75])
        low, high = np.mean(image < 0.01), np.mean(image > 0.99)
        assert statistics == pytest.approx([np.median(image), third - first, low, high], abs=1e-6)


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_unlike_the_training_and_other_lenses_are_not(lenses, defect):
    spread = TrainingRange.of(image_statistics(scaled(lenses[:30])))
    assert not spread.unlike(scaled(lenses[30:])).any()
    assert spread.unlike(scaled([defect(image) for image in lenses[30:]])).all()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs the published sample")
def test_published_lenses_are_like_each_other():
    paths = sorted(SAMPLE.glob("*/*.npy"))
    images = [np.load(path, allow_pickle=True) for path in paths[::2]]
    images = [image[0] if image.dtype == object else image for image in images]
    columns = [image.astype(float)[..., np.newaxis] for image in images]
    images = np.stack([resize_and_scale(image, 64, "resize") for image in columns])
    spread = TrainingRange.of(image_statistics(images[::2]))
    assert spread.unlike(images[1::2]).mean() <= 0.02


def test_a_background_of_zeros_is_like_one_of_rounding_errors():
    images = np.zeros((4, 16, 16, 1), np.float32)
    images[:, 4:8, 4:8] = np.linspace(0.2, 1, 16, dtype=np.float32).reshape(4, 4, 1)
    spread = TrainingRange.of(image_statistics(images))
    assert not spread.unlike(images + np.float32(1e-7)).any()


def test_a_range_is_restored_from_plain_data():
    spread = TrainingRange.of(image_statistics(np.random.default_rng(0).random((9, 8, 8, 1))))
    assert TrainingRange.from_dict(spread.to_dict()) == spread
    assert spread.n == 9


@pytest.mark.parametrize(
    "damage",
    [
        {"n": 0},
        {"n": True},
        {"median": [0.5, 0.2]},
        {"median": [0.1, float("nan")]},
        {"median": [-1.0, 0.2]},
        {"median": [0.1]},
        {"median": "ab"},
        {"other": [0, 1]},
    ],
)
def test_other_data_are_no_range(damage):
    values = TrainingRange((0.1,) * 4, (0.2,) * 4, 5).to_dict()
    with pytest.raises(ValueError, match="training_range must have"):
        TrainingRange.from_dict(values | damage)
    with pytest.raises(ValueError, match="training_range must have"):
        TrainingRange.from_dict([values])
