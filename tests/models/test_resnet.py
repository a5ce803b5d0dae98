"""ResNet50 under the original's layers."""

from itertools import pairwise

import numpy as np
import pytest

from deeplens_tf.models import build_encoder
from tests.models.tiny import assert_same_values, randomise, reloaded, tiny_images

# He et al.'s network without its classifier has 23,508,032 weights for three bands, and
# `keras.applications` adds a bias to each of its 53 convolutions (26,560) and counts the
# moving statistics (53,120).
BACKBONE = 23_508_032 + 26_560 + 53_120


def top_count(width):
    sides = [2048, 8 * width, 4 * width, width]
    return sum((a + 1) * b + 4 * b for a, b in pairwise(sides))


def test_an_image_too_small_for_five_halvings_is_refused():
    with pytest.raises(
        ValueError, match=r"32 pixels a side or more .*Received: image_shape=\(64, 31"
    ):
        build_encoder("resnet50", (64, 31, 1))


def test_an_option_of_the_transformer_is_refused():
    message = "patch_size is not an option of resnet50, whose options are plain_top, top_width"
    with pytest.raises(ValueError, match=message):
        build_encoder("resnet50", (64, 64, 1), patch_size=8)


@pytest.mark.slow
def test_the_network_is_resnet50_and_a_file_gives_it_back(tmp_path):
    encoder = build_encoder("resnet50", (32, 32, 3), top_width=8)
    assert encoder.count_params() == BACKBONE + top_count(8)
    assert [layer.rate for layer in encoder.top.layers if "drop" in layer.name] == [0.5, 0.5, 0.3]
    images = tiny_images(2, (32, 32, 3))
    assert encoder(images).shape == (2, 8) == encoder.compute_output_shape(images.shape)
    first, second = encoder(images, training=True), encoder(images, training=True)
    assert np.abs(first - second).max() > 0  # dropout is at work
    randomise(encoder.top)
    other = reloaded(encoder, tmp_path)
    assert_same_values(encoder, other)
    np.testing.assert_array_equal(encoder(images), other(images))


@pytest.mark.slow
def test_one_band_needs_only_a_smaller_first_kernel():
    assert build_encoder("resnet50", (32, 32, 1)).count_params() == (
        BACKBONE - 7 * 7 * 2 * 64 + top_count(256)
    )
