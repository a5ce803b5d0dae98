"""Occlusion maps against a loop over the places, for encoders and fine-tuned models."""

import keras
import numpy as np
import pytest

from deeplens_tf.inference import occlusion
from deeplens_tf.inference.attention_maps import attention_rollout
from deeplens_tf.inference.occlusion import occlusion_maps
from deeplens_tf.models import DownstreamModel, MassHead, classification_head
from deeplens_tf.models.rollout import patch_shares
from tests.models.tiny import dense_encoder, tiny_images, tiny_original, tiny_vit

IMAGES = tiny_images(2)  # 12 x 8, two bands
COVER = {"patch": 5, "stride": 3}
TOPS, LEFTS = (0, 3, 6, 7), (0, 3)  # the last ones end with the image


def naive(network, change, fill):
    """The change at each place, and at each pixel the mean over the places that cover it."""
    grids, pixels = [], []
    for image in IMAGES:
        whole = network(image[None], training=False).numpy()[0].astype(float)
        grid = np.zeros((len(TOPS), len(LEFTS)))
        seen = [[[] for _ in range(8)] for _ in range(12)]
        for i, top in enumerate(TOPS):
            for j, left in enumerate(LEFTS):
                covered = image.copy()
                for band in range(2):
                    value = fill(image[..., band])
                    covered[top : top + 5, left : left + 5, band] = value
                output = network(covered[None], training=False).numpy()[0].astype(float)
                grid[i, j] = change(whole, output)
                for row in range(top, top + 5):
                    for column in range(left, left + 5):
                        seen[row][column].append(grid[i, j])
        grids.append(grid)
        pixels.append([[np.mean(values) for values in row] for row in seen])
    return np.array(grids), np.array(pixels)


def one_minus_cosine(whole, output):
    return 1 - whole @ output / np.sqrt((whole @ whole) * (output @ output))


def fall(whole, output):
    best = int(np.argmax(whole))
    return whole[best] - output[best]


def shift(whole, output):
    return output[0] - whole[0]


def classifier():
    return DownstreamModel(dense_encoder(), classification_head(3), ("a", "b", "c"))


NETWORKS = {
    "encoder": (dense_encoder, one_minus_cosine),
    "classifier": (classifier, fall),
    "regression": (lambda: DownstreamModel(dense_encoder(), MassHead(-23, 0.5)), shift),
    "gaussian": (
        lambda: DownstreamModel(dense_encoder(), MassHead(-23, 0.5, gaussian=True)),
        shift,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_maps_are_those_of_a_loop(name):
    make, change = NETWORKS[name]
    keras.utils.set_random_seed(2)
    network = make()
    found = occlusion_maps(network, IMAGES, **COVER, fill="median")
    grids, pixels = naive(network, change, np.median)
    assert np.abs(grids).max() > 1e-5
    np.testing.assert_allclose(found.grid, grids, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.pixels, pixels, rtol=1e-3, atol=1e-6)
    assert found.grid.dtype == found.pixels.dtype == np.float32


def test_the_minimum_is_put_in_and_parts_give_the_same(monkeypatch):
    network = dense_encoder()
    grids, _ = naive(network, one_minus_cosine, np.min)
    found = occlusion_maps(network, IMAGES, **COVER, fill="minimum")
    np.testing.assert_allclose(found.grid, grids, rtol=1e-3, atol=1e-6)
    sizes, cover = [], occlusion._covered
    monkeypatch.setattr(occlusion, "COPIED_VALUES_AT_ONCE", 3 * IMAGES[0].size)
    monkeypatch.setattr(
        occlusion,
        "_covered",
        lambda image, part, how: sizes.append(len(part)) or cover(image, part, how),
    )
    parts = occlusion_maps(network, IMAGES, **COVER, fill="minimum")
    assert max(sizes) == 3  # memory is bounded
    np.testing.assert_allclose(parts.grid, found.grid, atol=1e-6)


def test_the_default_cover_is_an_eighth_by_half_steps():
    found = occlusion_maps(dense_encoder(), IMAGES)
    assert found.grid.shape == (2, 12, 8)  # an eighth of 8 pixels
    assert occlusion.cover_for((64, 32, 1)) == (4, 2, "median")


def test_a_cover_without_effect_is_a_change_of_zero():
    flat = np.full((1, 12, 8, 2), 0.25, np.float32)
    np.testing.assert_allclose(occlusion_maps(dense_encoder(), flat).pixels, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"patch": 9}, "patch must be from 1 to 8 pixels. Received: patch=9"),
        ({"patch": 0}, "patch must be from 1 to 8 pixels. Received: patch=0"),
        ({"patch": 2, "stride": 3}, "stride must be from 1 to patch=2. Received: stride=3"),
        ({"fill": "mean"}, "fill must be median or minimum. Received: fill='mean'"),
    ],
)
def test_a_cover_that_does_not_fit_is_refused(options, line):
    with pytest.raises(ValueError) as caught:
        occlusion_maps(dense_encoder(), IMAGES, **options)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (IMAGES[0], r"must have the shape \(n, 12, 8, 2\). Received: \(12, 8, 2\)"),
        (IMAGES[:0], r"must have the shape"),
        (300 * IMAGES, r"must be in \[0, 1\], as preprocessing.apply"),
        (IMAGES * np.nan, r"must be in \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("explain", [occlusion_maps, attention_rollout])
def test_images_that_are_not_the_networks_are_refused(explain, images, line):
    with pytest.raises(ValueError, match=line):
        explain(tiny_vit(), images)


def test_outputs_without_an_angle_are_refused():
    network = dense_encoder()
    for variable in network.weights:
        variable.assign(0 * variable)
    with pytest.raises(ValueError, match="the features are all zero"):
        occlusion_maps(network, IMAGES)
    for variable in network.weights:
        variable.assign(np.nan + variable)
    with pytest.raises(ValueError, match="not finite"):
        occlusion_maps(network, IMAGES)


@pytest.mark.parametrize("make", [tiny_vit, tiny_original])
def test_the_share_of_a_patch_is_spread_over_its_pixels(make, monkeypatch):
    encoder = make()
    monkeypatch.setattr("deeplens_tf.inference.attention_maps.IMAGES_AT_ONCE", 1)
    found = attention_rollout(encoder, IMAGES)
    np.testing.assert_allclose(found.grid, patch_shares(encoder, IMAGES), rtol=1e-5)
    for row in range(12):
        for column in range(8):
            expected = found.grid[:, row // 4, column // 4] / 16
            np.testing.assert_allclose(found.pixels[:, row, column], expected, rtol=1e-6)
    model = DownstreamModel(encoder, classification_head(2), ("a", "b"))
    np.testing.assert_array_equal(attention_rollout(model, IMAGES).grid, found.grid)
