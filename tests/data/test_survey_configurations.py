"""The configurations for survey images, on images of their layout."""

import numpy as np
import pytest

import deeplens_tf as dl
from deeplens_tf.augment import BackgroundNoise, Flip, Jitter, QuarterTurn
from deeplens_tf.config import load_config
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.view_making import build_augment


def cutout(generator, height, width):
    """Return g, r and i of a galaxy with a star beside it, (3, height, width)."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    image = np.exp(-distance / 8) + 0.02 * generator.normal(size=(3, height, width))
    image[:, 60:62, 90:92] += 1000
    return (image * np.array([1.0, 2.0, 3.0])[:, None, None]).astype("f4")


@pytest.fixture
def real(tmp_path):
    generator = np.random.default_rng(0)
    sizes = [(239, 239), (240, 238), (237, 241), (239, 240), (120, 125)]
    for name in ("lenses", "nonlenses"):
        folder = tmp_path / "real" / name
        folder.mkdir(parents=True)
        for i, size in enumerate(sizes):
            np.save(folder / f"{i}.npy", cutout(generator, *size))
        np.save(folder / "flat.npy", np.zeros((3, 239, 239), "f4"))
    return tmp_path / "real"


def test_real_lenses_of_uneven_sizes_with_constant_ones_are_read(real, tmp_path):
    data = open_data(load_config("real_lenses", [f"data.cache={tmp_path}/cache"], str(real)))
    assert data.image_shape == (128, 128, 3)
    assert data.manifest.left_out == {"no signal": 2}
    assert (data.count("train") + data.count("validation"), data.manifest.rejected) == (10, 0)
    assert data.preprocessing.band_names == ("g", "r", "i")
    assert data.margin == 27
    images = np.concatenate(list(dl.data.image_batches(data, "train", 5)))
    centre, sky = images[:, 62:66, 62:66].mean(axis=(1, 2)), images[:, 10:20, 10:20]
    assert (centre - sky.mean(axis=(1, 2)) > 0.5).all()  # beside a star of 1000 times the galaxy


@pytest.mark.parametrize("name", ["survey", "real_lenses"])
def test_their_scale_and_views(name):
    config = load_config(name)
    assert (config.data.interval, config.data.stretch) == ("percentile", "asinh")
    views = build_augment(config.augment).augmentations
    assert views == (Flip(), QuarterTurn(), Jitter(2), BackgroundNoise(1.0))
